"""The verdict is the furthest hypothesis' own, and doubt is not called clean."""

from dataclasses import replace

import pytest

from core.recovery.detection import HypothesisResult
from core.recovery.nulls import Null, similarity_at
from core.recovery.verdict import ALARM, DOUBT, DOUBT_ABROAD, compared, judge_hypotheses
from core.types import Verdict

CLEAN = 0.4
MASKED = Null(2.0, 0.3, 6, 8, True, "6 clean encoders of a kind")
ADDITIVE = Null(1.0, 0.3, 6, 8, True, "6 clean encoders of a kind")


def result(name: str, score: float, null: Null) -> HypothesisResult:
    return compared(name, "key@1", [score, score - 0.1], CLEAN, null)


@pytest.mark.parametrize(
    ("masked", "additive", "verdict"),
    [
        (0.85, 0.6, Verdict.CLEAN),
        (0.999, 0.6, Verdict.BACKDOORED),
        (0.85, 0.999, Verdict.BACKDOORED),
        (similarity_at(MASKED.limit(ALARM), CLEAN) + 1e-6, 0.5, Verdict.BACKDOORED),
        (similarity_at(MASKED.limit(DOUBT), CLEAN) + 1e-6, 0.5, Verdict.INCONCLUSIVE),
        (0.5, similarity_at(ADDITIVE.limit(DOUBT), CLEAN) + 1e-6, Verdict.INCONCLUSIVE),
        (similarity_at(MASKED.limit(DOUBT), CLEAN) - 1e-6, 0.5, Verdict.CLEAN),
    ],
)
def test_the_verdict_follows_the_most_suspicious_hypothesis(masked: float, additive: float, verdict: Verdict) -> None:
    judged = judge_hypotheses([result("masked", masked, MASKED), result("additive", additive, ADDITIVE)])
    assert judged.verdict is verdict
    assert judged.score in (masked, additive)


def test_the_same_score_means_more_where_clean_encoders_score_less() -> None:
    judged = judge_hypotheses([result("masked", 0.93, MASKED), result("additive", 0.93, ADDITIVE)])
    assert "additive" in judged.reasons[0] and "6 clean encoders of a kind" in judged.reasons[0]


def test_doubt_begins_earlier_among_strangers() -> None:
    abroad = Null(2.0, 0.3, 6, 8, False, "6 clean encoders of other families")
    row = compared("masked", "key@1", [0.9], CLEAN, abroad)
    assert row.doubtful == pytest.approx(similarity_at(abroad.limit(DOUBT_ABROAD), CLEAN))
    assert row.doubtful < (compared("masked", "key@1", [0.9], CLEAN, MASKED).doubtful or 0)


def test_a_row_tells_what_clean_encoders_score() -> None:
    row = compared("masked", "key@1", [0.99, 0.7], CLEAN, MASKED)
    assert row.scores == (0.99, 0.7) and row.score == 0.99
    assert row.expected == pytest.approx(similarity_at(2.0, CLEAN))
    assert row.expected < (row.doubtful or 0) < row.threshold
    assert (row.excess or 0) > 0


def test_only_searches_as_deep_as_the_best_are_followed() -> None:
    judged = judge_hypotheses([result("masked", 0.998, MASKED)])
    assert judged.follow_from == pytest.approx(0.992)


def test_what_was_taken_off_a_score_is_said() -> None:
    square = replace(result("plain square", 0.999, MASKED), raw_similarity=0.99961)
    reason, *_ = judge_hypotheses([square, result("additive", 0.5, ADDITIVE)]).reasons
    assert "0.999 (1.000, less what the same square does elsewhere in the image), where" in reason
