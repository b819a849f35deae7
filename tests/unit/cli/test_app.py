"""Exit codes and output of the command line, with the audit itself replaced by one that ends as the test says."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import core.audit
from core.audit import AuditOutcome, AuditRequest
from core.cli.app import run
from core.encoders.reading import Reading
from core.errors import AuditFailed, Cancelled, UnsupportedInput
from core.kinds.findings import Findings
from core.recovery.detection import Detection, HypothesisResult
from core.report.build import build_report
from core.report.write import Artifact
from core.run import Run
from core.types import Verdict
from tests.unit import audited

DOUBTFUL = HypothesisResult("patch", 0.7, 0.72, (0.7,), doubtful=0.6)
Answer = Callable[[AuditRequest, Path, Run], AuditOutcome]


def ending_in(findings: Findings) -> Answer:
    """An audit with these findings, whose files hold their own names."""

    def audit(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        report = build_report(findings, audited.circumstances(request.kind))
        names = ["report.json", "report.html", *(["encoder"] if findings.delivered else [])]
        if findings.detection.triggers:
            names.append("trigger.png")
        for name in names:
            (output / name).write_text(name)
        artifacts = tuple(Artifact(name, output / name, "text/plain") for name in names)
        found = findings.detection
        return AuditOutcome(found.verdict, found.score, found.threshold, report.to_json(), artifacts)

    return audit


def raising(error: BaseException) -> Answer:
    def audit(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        (output / "half.safetensors").write_text("half")
        raise error

    return audit


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder.safetensors").write_text("weights")
    return tmp_path


@pytest.fixture
def audit_ends(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    return lambda answer: monkeypatch.setattr(core.audit, "run_audit", answer)


DETECT = ["detect", "encoder.safetensors", "images", "--format", "json"]
PURIFY = ["purify", "encoder.safetensors", "images", "--output", "out.safetensors", "--format", "json"]


@pytest.mark.parametrize(("verdict", "code"), [(Verdict.CLEAN, 0), (Verdict.BACKDOORED, 1), (Verdict.INCONCLUSIVE, 5)])
def test_detect_answers_with_its_verdict(
    verdict: Verdict,
    code: int,
    workplace: Path,
    audit_ends: Callable[[Answer], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    audit_ends(ending_in(Findings(replace(audited.clean(), verdict=verdict))))
    assert run(DETECT) == code
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == verdict.value
    assert (document["score"], document["threshold"], document["elapsed_seconds"]) == (0.44, 0.72, 131.4)
    assert (document["purified"], document["output"], document["report"]) == (None, None, None)
    assert list(workplace.iterdir()) == [workplace / "encoder.safetensors"]


@pytest.mark.parametrize(
    ("found", "answers"),
    [
        (audited.backdoored(), ["yes", "no"]),
        (audited.blown_up(), ["no proof", "no"]),
        (
            replace(audited.clean(), hypotheses=(HypothesisResult("patch", 0.7, 0.72, (0.7,), doubtful=0.6),)),
            ["in doubt"],
        ),
    ],
    ids=["backdoored", "blown up", "doubtful"],
)
def test_the_table_says_what_each_kind_of_trigger_is_worth(
    found: Detection,
    answers: list[str],
    workplace: Path,
    audit_ends: Callable[[Answer], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    audit_ends(ending_in(Findings(found)))
    run(["detect", "encoder.safetensors", "images", "--format", "table"])
    rows = [line for line in capsys.readouterr().out.splitlines() if "as given" in line]
    assert [row.split("│")[-2].strip() for row in rows] == answers


def test_what_was_read_and_assumed_stands_before_the_verdict(
    workplace: Path, audit_ends: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    part = audited.circumstances().encoder

    def audit(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        request.on_read(Reading("read.", ("early",)), ("two are one.",))
        return ending_in(Findings(audited.clean()))(request, output, run)

    audit_ends(audit)
    run(["detect", "encoder.safetensors", "images", "--format", "table"])
    printed = capsys.readouterr()
    assert printed.out.splitlines()[:3] == [
        f"Audited: {part.audited}",
        f"  Check: {part.assumptions[0]}",
        "Images: 490 of the 498 images are distinct & the others repeat them.",
    ]
    assert printed.err.splitlines()[:3] == ["Audited: read.", "  Check: early", "Images: two are one."]
    run(DETECT)
    document = json.loads(capsys.readouterr().out)
    assert list(document)[:2] == ["kind", "encoder"]
    assert (document["encoder"]["audited"], document["encoder"]["assumptions"]) == (part.audited, part.assumptions)


def test_purify_reports_both_verdicts_and_answers_for_the_delivered_encoder(
    workplace: Path, audit_ends: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    audit_ends(ending_in(audited.purified()))
    assert run(PURIFY) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["purified"]["verdict"]) == ("backdoored", "clean")
    assert document["output"] == "out.safetensors"
    assert (workplace / "out.safetensors").read_text() == "encoder"
    assert {path.name for path in workplace.iterdir()} == {"encoder.safetensors", "out.safetensors"}


def test_purify_that_did_not_help_is_no_success(workplace: Path, audit_ends: Callable[[Answer], None]) -> None:
    audit_ends(ending_in(replace(audited.purified(), verification=audited.backdoored())))
    assert run(PURIFY) == 1


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (UnsupportedInput("not_weights", field="encoder", found="x", expected="y", action="z"), 3, "not_weights"),
        (AuditFailed("out_of_memory", field="device", found="x", expected="y", action="z"), 2, "out_of_memory"),
        (RuntimeError("boom"), 2, "unexpected"),
        (Cancelled(), 130, "interrupted"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_failure_is_one_json_object_and_leaves_nothing(
    error: BaseException,
    code: int,
    name: str,
    workplace: Path,
    audit_ends: Callable[[Answer], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    audit_ends(raising(error))
    assert run([*PURIFY, "--report", "report"]) == code
    written = capsys.readouterr()
    assert json.loads(written.out)["error"]["code"] == name
    assert "Traceback" not in written.err
    assert list(workplace.iterdir()) == [workplace / "encoder.safetensors"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [("cleanse", "is kept"), ("zoo", "is kept"), ("pretrain", "is kept"), ("purify", "Nothing was written")],
)
def test_an_interruption_says_what_became_of_the_work(
    command: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(words: Sequence[str]) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("core.cli.app.build_app", interrupted)
    assert run([command, "anything"]) == 130
    assert expected in capsys.readouterr().err


def test_debug_shows_where_it_happened(
    workplace: Path, audit_ends: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    audit_ends(raising(RuntimeError("boom")))
    assert run([*DETECT, "--debug"]) == 2
    written = capsys.readouterr()
    assert "Traceback" in written.err
    assert len(written.out.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["detect"],
        ["detect", "encoder.safetensors", "images", "--seed", "-1"],
        ["detect", "encoder.safetensors", "images", "--format", "xml"],
        ["detect", "encoder.safetensors", "images", "--set", "steps"],
        ["detect", "encoder.safetensors", "images", "--card", "missing.json"],
        ["purify", "encoder.safetensors", "images"],
        ["purify", "encoder.safetensors", "images", "--output", "out.txt"],
        ["purify", "encoder.safetensors", "images", "--output", "encoder.safetensors/out.pt"],
        ["purify", "encoder.safetensors", "images", "--output", "encoder.safetensors", "--force"],
    ],
)
def test_wrong_usage_is_neither_clean_nor_backdoored(
    arguments: list[str], workplace: Path, audit_ends: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    audit_ends(ending_in(Findings(audited.clean())))
    assert run(arguments) == 4
    assert "Traceback" not in capsys.readouterr().err
    assert (workplace / "encoder.safetensors").read_text() == "weights"


def test_wrong_usage_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["detect", "--format=json"]) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "usage"
    assert "ENCODER" in error["found"]


def test_existing_files_are_replaced_only_by_force(workplace: Path, audit_ends: Callable[[Answer], None]) -> None:
    audit_ends(ending_in(audited.purified()))
    (workplace / "out.safetensors").write_text("precious")
    assert run(PURIFY) == 4
    assert (workplace / "out.safetensors").read_text() == "precious"
    assert run([*PURIFY, "--force"]) == 0
    assert (workplace / "out.safetensors").read_text() == "encoder"


def test_pictures_of_an_earlier_audit_do_not_stay_beside_a_new_report(
    workplace: Path, audit_ends: Callable[[Answer], None]
) -> None:
    arguments = [*DETECT, "--report", "report"]
    audit_ends(ending_in(Findings(audited.backdoored())))
    assert run(arguments) == 1
    (workplace / "report" / "notes.txt").write_text("mine")
    audit_ends(ending_in(Findings(audited.clean())))
    assert run(arguments) == 4
    assert run([*arguments, "--force"]) == 0
    assert {path.name for path in (workplace / "report").iterdir()} == {"report.json", "report.html", "notes.txt"}


def test_table_goes_to_standard_output_and_sentences_to_standard_error(
    workplace: Path, audit_ends: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    audit_ends(ending_in(audited.purified()))
    assert run(PURIFY[:-2]) == 0
    written = capsys.readouterr()
    assert "masked patch" in written.out
    assert "BACKDOORED" in written.err
    assert "out.safetensors" in written.err
    assert "Triggers that differ from image to image." in written.err


def test_the_request_carries_what_was_typed(workplace: Path, audit_ends: Callable[[Answer], None]) -> None:
    seen: list[AuditRequest] = []

    def audit(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        seen.append(request)
        return ending_in(Findings(audited.clean()))(request, output, run)

    audit_ends(audit)
    (workplace / "card.json").write_text('{"architecture": "timm/vit"}')
    settings = ["--card", "card.json", "--seed", "9", "--device", "cpu", "--preset", "paper", "--method", "decree"]
    assert run([*DETECT, *settings, "--set", "steps=3"]) == 0
    (request,) = seen
    assert request.card == {"architecture": "timm/vit"}
    assert (request.seed, request.device) == (9, "cpu")
    assert request.parameters == {"preset": "paper", "detection": {"method": "decree", "steps": 3}}
