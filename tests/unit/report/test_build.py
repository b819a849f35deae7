"""The report's JSON says what the findings say."""

from __future__ import annotations

from dataclasses import replace

import jsonschema
import pytest
from pydantic import ValidationError

from core.contract import report_schema
from core.kinds.findings import Findings
from core.report.build import build_report
from core.types import Verdict
from tests.unit import audited


@pytest.mark.parametrize(
    ("findings", "kind"),
    [
        (audited.purified(), "purify"),
        (Findings(audited.backdoored()), "detect"),
        (Findings(audited.clean(), delivered=audited.encoder()), "purify"),
    ],
)
def test_every_report_fits_the_published_schema(findings: Findings, kind: str) -> None:
    document = build_report(findings, audited.circumstances(kind)).to_json()
    jsonschema.Draft202012Validator(report_schema()).validate(document)
    assert document["schema"] == "encoder-audit/report/1"


def test_schema_refuses_a_report_with_an_unknown_field() -> None:
    document = build_report(audited.purified(), audited.circumstances()).to_json()
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "surprise": 1}, report_schema())


def test_verdict_is_about_the_given_encoder_and_purification_about_the_delivered_one() -> None:
    report = build_report(audited.purified(), audited.circumstances())
    assert (report.verdict, report.score, report.margin) == (Verdict.BACKDOORED, 0.97, pytest.approx(0.25))
    assert report.purification is not None
    assert (report.purification.verdict_before, report.purification.verdict) == (Verdict.BACKDOORED, Verdict.CLEAN)
    assert (report.purification.score_before, report.purification.score) == (0.97, 0.44)
    assert (report.purification.threshold_before, report.purification.threshold) == (0.72, 0.72)
    assert (report.purification.decided_by_before, report.purification.decided_by) == ("masked patch", "masked patch")
    assert report.purification.performed


def test_nothing_to_unlearn_is_said_in_words() -> None:
    findings = Findings(audited.clean(), delivered=audited.encoder())
    purification = build_report(findings, audited.circumstances()).purification
    assert purification is not None
    assert not purification.performed
    assert "as it came" in purification.explanation
    assert purification.drift is None
    assert purification.verdict is Verdict.CLEAN


def test_an_encoder_that_stays_backdoored_is_not_praised() -> None:
    findings = replace(audited.purified(), verification=audited.backdoored())
    purification = build_report(findings, audited.circumstances()).purification
    assert purification is not None
    assert purification.verdict is Verdict.BACKDOORED
    assert "Do not deploy" in purification.explanation


def test_a_number_that_is_not_finite_cannot_be_reported() -> None:
    with pytest.raises(ValidationError):
        build_report(Findings(replace(audited.clean(), score=float("nan"))), audited.circumstances("detect"))


def test_long_loss_histories_are_thinned_with_both_ends_kept() -> None:
    report = build_report(audited.purified(), audited.circumstances())
    history = audited.unlearnt().history
    assert report.purification is not None
    assert len(report.purification.loss) == 200
    assert (report.purification.loss[0], report.purification.loss[-1]) == (history[0], history[-1])
