"""A trigger that makes features alike by making them huge is no proof; one that leads to where images lie is."""

from dataclasses import replace

import torch

from core.kinds.detect import needs_surrogate
from core.recovery.blow_up import BLOWN_UP, is_blown_up, judge_without_blow_ups, nearest, stretch
from core.recovery.detection import Detection, HypothesisResult
from core.recovery.hypotheses import Hypothesis, MaskedPattern, SpectralPattern
from core.recovery.search import Candidate
from core.recovery.second_opinion import wants_another
from core.triggers import MaskedTrigger
from core.types import Verdict

CLEAN = torch.eye(4)
TRIGGER = MaskedTrigger(torch.ones(1, 2, 2), torch.ones(3, 2, 2))
MASKED = MaskedPattern(0.03)


def candidate(similarity: float, times: float) -> Candidate:
    return Candidate(MASKED, TRIGGER, similarity, times * torch.ones(4, 4) / 2)


def row(score: float, kind: Hypothesis = MASKED, excess: float = 1.0) -> HypothesisResult:
    return HypothesisResult(
        kind.name, score, 0.9, (score,), doubtful=0.8, expected=0.5, excess=excess, null="some", key=kind.key
    )


def test_the_ratio_of_lengths() -> None:
    assert stretch(torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 10.0]]), torch.tensor([[2.0, 0.0]])) == 2.5


def test_the_nearest_clean_direction() -> None:
    clean = torch.tensor([[0.0, 5.0], [3.0, 4.0]])
    assert abs(nearest(torch.tensor([[2.0, 0.0], [9.0, 0.0]]), clean) - 0.6) < 1e-6


def test_long_features_that_some_image_shares_the_direction_of_are_not_blown_up() -> None:
    long = candidate(0.99, 27).features
    assert is_blown_up(long, CLEAN)  # cosine .5 to each
    one_there = torch.cat([CLEAN, torch.ones(1, 4)])
    assert not is_blown_up(long, one_there)
    judged = judge_without_blow_ups([row(0.99)], [[candidate(0.99, 27)]], one_there)
    assert judged.verdict is Verdict.BACKDOORED and judged.score == 0.99


def test_what_leads_to_where_images_lie_is_a_backdoor() -> None:
    judged = judge_without_blow_ups([row(0.95)], [[candidate(0.95, 4)]], CLEAN)
    assert judged.verdict is Verdict.BACKDOORED and judged.score == 0.95 and not judged.blown_up


def test_what_blows_features_up_is_doubt_with_its_reason() -> None:
    judged = judge_without_blow_ups([row(0.99)], [[candidate(0.99, 27)]], CLEAN)
    assert judged.verdict is Verdict.INCONCLUSIVE and judged.blown_up
    assert "27 times as long" in judged.reasons[-1] and "cosine 0.50" in judged.reasons[-1]


def test_a_sound_square_behind_it_is_quoted_with_its_own_similarity() -> None:
    blown = replace(candidate(0.99, 27), location_adjusted=0.98)
    found = [[blown, replace(candidate(0.96, 2), location_adjusted=0.95)]]
    judged = judge_without_blow_ups([replace(row(0.98), raw_similarity=0.99)], found, CLEAN)
    assert judged.verdict is Verdict.BACKDOORED and judged.score == 0.95
    assert "0.950 (0.960, less" in judged.reasons[0]


def test_a_sound_candidate_behind_it_decides() -> None:
    found = [[candidate(0.99, BLOWN_UP), candidate(0.93, 2), candidate(0.92, 2)]]
    judged = judge_without_blow_ups([row(0.99)], found, CLEAN)
    assert judged.verdict is Verdict.BACKDOORED and judged.score == 0.93
    found = [[candidate(0.99, BLOWN_UP), candidate(0.85, 2)]]  # only doubtful
    assert judge_without_blow_ups([row(0.99)], found, CLEAN).verdict is Verdict.INCONCLUSIVE


def test_doubt_that_only_blow_ups_give_is_marked_as_such() -> None:
    judged = judge_without_blow_ups([row(0.85, excess=-0.4)], [[candidate(0.85, 27), candidate(0.7, 2)]], CLEAN)
    assert judged.verdict is Verdict.INCONCLUSIVE and judged.blown_up
    judged = judge_without_blow_ups([row(0.85, excess=-0.4)], [[candidate(0.85, 2), candidate(0.82, 27)]], CLEAN)
    assert judged.verdict is Verdict.INCONCLUSIVE and not judged.blown_up


def test_a_sound_trigger_of_another_kind_decides_over_one_that_is_further_beyond_its_limit() -> None:
    rows = [row(0.99, excess=2.0), row(0.95, excess=0.1)]
    sound = replace(candidate(0.95, 2), hypothesis=SpectralPattern(1.6))
    rows[1] = replace(rows[1], name=sound.hypothesis.name, key=sound.hypothesis.key)
    judged = judge_without_blow_ups(rows, [[candidate(0.99, 27)], [sound]], CLEAN)
    assert judged.verdict is Verdict.BACKDOORED and judged.score == 0.95


def test_another_kind_decides_where_it_is_beyond_its_own_limit() -> None:
    rows = [row(0.99), replace(row(0.95, excess=0.2), name="additive, against half of it", key="growth@0.04706")]
    judged = judge_without_blow_ups(rows, [[candidate(0.99, 27)]], CLEAN)
    assert judged.verdict is Verdict.BACKDOORED and judged.score == 0.95


def test_a_clean_verdict_stays() -> None:
    judged = judge_without_blow_ups([row(0.7, excess=-1.0)], [[candidate(0.7, 27)]], CLEAN)
    assert judged.verdict is Verdict.CLEAN and not judged.blown_up


def test_neither_another_method_nor_a_purified_copy_is_asked() -> None:
    found = Detection("m", Verdict.INCONCLUSIVE, 0.99, 0.9, ("r",), triggers=(object(),))  # type: ignore[arg-type]
    abroad = replace(found, calibrated=False)
    assert wants_another(found) and needs_surrogate(abroad)
    assert not wants_another(replace(found, blown_up=True))
    assert not needs_surrogate(replace(abroad, blown_up=True))
