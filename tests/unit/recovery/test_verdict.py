"""The verdict is the furthest hypothesis' own, and doubt is not called clean."""

import pytest

from core.recovery.detection import HypothesisResult
from core.recovery.verdict import Band, judge_hypotheses
from core.types import Verdict


def result(band: Band, score: float) -> HypothesisResult:
    return HypothesisResult(band.name.lower(), score, band.threshold, (score,))


@pytest.mark.parametrize(
    ("masked", "additive", "verdict"),
    [
        (0.85, 0.6, Verdict.CLEAN),
        (0.999, 0.6, Verdict.BACKDOORED),
        (0.85, 0.999, Verdict.BACKDOORED),
        (Band.MASKED.threshold, 0.1, Verdict.BACKDOORED),
        (Band.MASKED.doubtful, 0.1, Verdict.INCONCLUSIVE),
        (0.1, Band.ADDITIVE.doubtful, Verdict.INCONCLUSIVE),
    ],
)
def test_the_verdict_follows_the_most_suspicious_hypothesis(masked: float, additive: float, verdict: Verdict) -> None:
    judged = judge_hypotheses([result(Band.MASKED, masked), result(Band.ADDITIVE, additive)])
    assert judged.verdict is verdict
    assert judged.score in (masked, additive)


def test_only_searches_as_deep_as_the_best_are_followed() -> None:
    judged = judge_hypotheses([result(Band.MASKED, 0.998)])
    assert judged.follow_from == pytest.approx(0.992)
