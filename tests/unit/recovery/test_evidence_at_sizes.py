"""Evidence of a backdoor counts the same at every image size, and what cannot be judged never ends in *clean*."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from core.recovery.bands import shipped_bands, shipped_observations
from core.recovery.detection import About, Caveat, Detection, HypothesisResult
from core.recovery.hypotheses import Hypothesis
from core.recovery.nulls import null_for, similarity_at
from core.recovery.opaque_windows import window_grid
from core.recovery.plain_squares import PlainSquare, SquareSettings
from core.recovery.ssldefender_search import SSLDefenderConfig, searched_hypotheses
from core.recovery.surrogate import against_surrogate, scores_of, undecided
from core.recovery.verdict import compared, judge_hypotheses
from core.types import Verdict

CONFIG = SSLDefenderConfig()
SIDES = (32, 48, 64, 96, 224)
CLEAN = 0.4


def kinds(side: int, config: SSLDefenderConfig = CONFIG) -> list[Hypothesis]:
    """One hypothesis of every kind that a detection with ``config`` looks for in images of ``side`` pixels."""
    squares = SquareSettings(config.square_side, config.square_stride, config.square_images)
    square = PlainSquare(0, 0, 2, config.square_side, squares.largest(side, side))
    return [*(h for h, _ in searched_hypotheses(config)), window_grid(side, side, config.window_side)[0], square]


def detection(side: int, scores: dict[str, float], config: SSLDefenderConfig = CONFIG) -> Detection:
    """What a search of a family that nobody measured ends in: x by the kind's key, 0.2 for the kinds without one."""
    rows: list[HypothesisResult] = []
    for hypothesis in kinds(side, config):
        null = null_for(hypothesis.key, "", shipped_observations()) or null_for(
            "masked@0.03", "", shipped_observations()
        )
        assert null is not None
        measured = hypothesis.key in {key for one in shipped_observations() for key in one.scores}
        x = scores.get(hypothesis.key, 0.2)
        rows.append(
            compared(hypothesis.name, hypothesis.key, [similarity_at(x, CLEAN)], CLEAN, null, measured=measured)
        )
    judged = judge_hypotheses(rows)
    family = Caveat(About.FAMILY, "No clean encoder of its family was measured.")
    return Detection(
        "ssldefender", judged.verdict, judged.score, judged.threshold, (*judged.reasons, family.sentence), tuple(rows),
        clean_similarity=CLEAN, calibrated=False, caveats=(family,),
    )  # fmt: skip


@pytest.mark.parametrize("side", SIDES)
def test_every_kind_that_is_looked_for_was_measured_whatever_the_size(side: int) -> None:
    measured = {key for one in shipped_bands()[0].observed for key in one.scores}
    assert {hypothesis.key for hypothesis in kinds(side)} <= measured
    assert len({hypothesis.key for hypothesis in kinds(side)}) == 5


@pytest.mark.parametrize("x", [4.0, 6.0, 9.0])
@pytest.mark.parametrize("kind", ["opaque-patch@0.19", "plain-square@0.375", "masked@0.03"])
@pytest.mark.parametrize("side", SIDES)
def test_a_planted_patch_stays_a_backdoor_beside_a_copy_without_it(side: int, kind: str, x: float) -> None:
    suspect, copy = detection(side, {kind: x}), detection(side, {})
    suspect = replace(suspect, triggers=("a trigger",))  # type: ignore[arg-type]
    judged = against_surrogate(suspect, scores_of(copy), shipped_observations())
    assert judged.verdict is Verdict.BACKDOORED and judged.triggers == ("a trigger",)
    assert [row.key for row in judged.hypotheses] == [row.key for row in suspect.hypotheses]
    assert judged.calibrated and all("family" not in reason for reason in judged.reasons)


@pytest.mark.parametrize("side", SIDES)
def test_a_copy_that_withstands_patches_accuses_no_clean_encoder(side: int) -> None:
    """Measured on a clean ShuffleNet of 48 pixels: opaque patches reach x = 3.1, in its copy .7."""
    suspect = detection(side, {"opaque-patch@0.19": 3.1, "masked@0.03": 0.6})
    judged = against_surrogate(suspect, {"opaque-patch@0.19": 0.7}, shipped_observations())
    assert judged.verdict is Verdict.INCONCLUSIVE and "opaque patch" in judged.reasons[0]


@pytest.mark.parametrize("side", SIDES)
def test_nothing_planted_is_clean_beside_its_copy(side: int) -> None:
    judged = against_surrogate(
        detection(side, {"masked@0.03": 0.5}), scores_of(detection(side, {})), shipped_observations()
    )
    assert judged.verdict is Verdict.CLEAN and not judged.triggers


@pytest.mark.parametrize("side", SIDES)
def test_what_neither_the_copy_nor_clean_encoders_say_anything_of_leaves_no_clean_verdict(side: int) -> None:
    wide = SSLDefenderConfig(window_side=0.3)
    suspect = replace(detection(side, {"opaque-patch@0.3": 6.0}, wide), triggers=("a trigger",))  # type: ignore[arg-type]
    judged = against_surrogate(suspect, scores_of(detection(side, {}, wide)), shipped_observations())
    assert judged.verdict is Verdict.INCONCLUSIVE and judged.triggers
    assert any("opaque patch" in reason and "not called clean" in reason for reason in judged.reasons)
    open_to_doubt = {"plain-square@0.375": 1.6}
    silent = replace(detection(side, {}), hypotheses=detection(side, {}).hypotheses[:-1])
    judged = against_surrogate(detection(side, open_to_doubt), scores_of(silent), shipped_observations())
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert any("plain square" in reason for reason in judged.reasons)


@pytest.mark.parametrize("side", SIDES)
def test_a_copy_is_asked_only_what_it_can_settle(side: int) -> None:
    suspect = detection(side, {"masked@0.03": 4.0, "additive@0.04706": 1.0, "plain-square@0.375": 2.0})
    assert undecided(suspect, shipped_observations()) == {"masked@0.03", "plain-square@0.375"}
    assert not undecided(detection(side, {"masked@0.03": 9.0, "plain-square@0.375": 2.0}), shipped_observations())


@pytest.mark.parametrize("x", [0.75, 1.1])
def test_what_no_copy_would_make_doubtful_needs_none(x: float) -> None:
    """Beyond what the wide limits of all families call plainly clean, and yet not doubtful beside any clean encoder."""
    suspect = detection(64, {"additive@0.04706": x})
    assert suspect.verdict is Verdict.INCONCLUSIVE and not undecided(suspect, shipped_observations())
    whole_copies = [scores_of(detection(64, {"additive@0.04706": copy})) for copy in (0.08, 0.3, 0.6)]
    for copies in ({}, *whole_copies):
        assert against_surrogate(suspect, copies, shipped_observations()).verdict is Verdict.CLEAN


def test_other_parameters_than_the_measured_ones_stay_said_beside_a_copy() -> None:
    suspect = detection(64, {"masked@0.03": 6.0})
    other = Caveat(About.PARAMETERS, "With other parameters.")
    suspect = replace(suspect, caveats=(*suspect.caveats, other), reasons=(*suspect.reasons, other.sentence))
    judged = against_surrogate(suspect, scores_of(detection(64, {})), shipped_observations())
    assert judged.verdict is Verdict.BACKDOORED and not judged.calibrated
    assert other.sentence in judged.reasons and judged.caveats == (other,)


def test_a_window_covers_the_same_share_of_every_image() -> None:
    for side in SIDES:
        window = window_grid(side, side, CONFIG.window_side)[0]
        share = float(window.mask(side, side).mean()) ** 0.5  # type: ignore[attr-defined]
        assert share == pytest.approx(CONFIG.window_side, abs=0.5 / side)
        assert torch.equal(window.mask(side, side), window.mask(side, side))  # type: ignore[attr-defined]
