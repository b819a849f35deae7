"""A suspect of an unknown family, held against a purified copy of itself."""

from dataclasses import replace

import pytest

from core.recovery.detection import Detection
from core.recovery.nulls import Observation, null_for, similarity_at
from core.recovery.surrogate import SOURCE, against_surrogate, scores_of
from core.recovery.verdict import compared, judge_hypotheses
from core.types import Verdict

OBSERVED = [
    Observation(f"{family} {i}", family, "0" * 64, 1, {"mask": x})
    for family, scores in {"a": (1.8, 2.0, 2.2), "b": (2.8, 3.0, 3.2)}.items()
    for i, x in enumerate(scores)
]
CLEAN = 0.4


def found(x: float) -> Detection:
    null = null_for("mask", "stranger", OBSERVED)
    assert null is not None
    row = compared("a mask", "mask", [similarity_at(x, CLEAN)], CLEAN, null)
    judged = judge_hypotheses([row])
    return Detection(
        "ssldefender", judged.verdict, judged.score, judged.threshold, judged.reasons, (row,),
        clean_similarity=CLEAN, calibrated=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("suspect", "copy", "verdict"),
    [(5.5, 2.4, Verdict.BACKDOORED), (3.6, 3.3, Verdict.CLEAN), (3.6, 1.2, Verdict.INCONCLUSIVE)],
)
def test_the_distance_to_the_copy_decides(suspect: float, copy: float, verdict: Verdict) -> None:
    judged = against_surrogate(found(suspect), scores_of(found(copy)), OBSERVED)
    assert judged.verdict is verdict and judged.calibrated
    assert judged.hypotheses[0].null == SOURCE and SOURCE in judged.reasons[0]


@pytest.mark.parametrize("verdict", [Verdict.BACKDOORED, Verdict.CLEAN])
def test_a_copy_that_still_acts_backdoored_proves_neither_guilt_nor_innocence(verdict: Verdict) -> None:
    """Suspect and copy agree, because unlearning failed: on a backdoor, or on what such encoders are like."""
    judged = against_surrogate(replace(found(5.5), verdict=verdict), scores_of(found(5.4)), OBSERVED)
    assert judged.verdict is Verdict.INCONCLUSIVE and not judged.calibrated
    assert "still scores more" in judged.reasons[-1] and "nothing settles" in judged.reasons[-1]


def test_a_score_beyond_all_doubt_needs_no_copy() -> None:
    judged = against_surrogate(found(9.0), scores_of(found(8.9)), OBSERVED)
    assert judged.verdict is Verdict.BACKDOORED and not judged.calibrated
    assert "could not serve" in judged.reasons[-1] and "nothing settles" not in judged.reasons[-1]
    suspect = with_blown_up(3.3, 9.0)
    assert against_surrogate(replace(suspect, verdict=Verdict.BACKDOORED), scores_of(found(8.9)), OBSERVED).verdict is (
        Verdict.INCONCLUSIVE
    )


def test_a_copy_of_which_nothing_can_be_said_leaves_no_clean_verdict() -> None:
    collapsed = Detection("ssldefender", Verdict.INCONCLUSIVE, None, None, ("collapsed",))
    judged = against_surrogate(replace(found(3.6), verdict=Verdict.CLEAN), scores_of(collapsed), OBSERVED)
    assert judged.verdict is Verdict.INCONCLUSIVE


def with_blown_up(x: float, *beyond: float) -> Detection:
    """A search that ended in sound triggers of ``x``, and in others of ``beyond`` that blow features up."""
    before = found(x)
    blown = tuple(similarity_at(one, CLEAN) for one in beyond)
    row = before.hypotheses[0]
    row = replace(row, score=max(*blown, row.score), scores=(*blown, *row.scores), blown_up=blown)
    return replace(before, hypotheses=(row,))


def test_blown_up_features_count_neither_in_the_suspect_nor_in_its_copy() -> None:
    assert against_surrogate(with_blown_up(3.3, 5.5), scores_of(found(3.2)), OBSERVED).verdict is Verdict.CLEAN
    assert against_surrogate(found(5.5), scores_of(with_blown_up(2.4, 5.4)), OBSERVED).verdict is Verdict.BACKDOORED


def test_nothing_but_blown_up_features_leaves_no_clean_verdict() -> None:
    suspect = found(5.5)
    row = replace(suspect.hypotheses[0], blown_up=suspect.hypotheses[0].scores)
    suspect = replace(suspect, hypotheses=(row,), verdict=Verdict.CLEAN)
    assert against_surrogate(suspect, scores_of(found(3.2)), OBSERVED).verdict is Verdict.INCONCLUSIVE
