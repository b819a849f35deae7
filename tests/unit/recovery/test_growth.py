"""What a pattern of full strength does, against what half of it does."""

from __future__ import annotations

import math

import pytest

from core.recovery.bands import shipped_observations
from core.recovery.growth import growth, growth_key, growth_null, growth_row, half_of
from core.recovery.hypotheses import AdditivePattern
from core.recovery.nulls import PRIOR_DEVIATION, Null, remaining_gap, similarity_at
from core.recovery.verdict import ALARM, DOUBT, compared, judge_hypotheses
from core.types import Verdict

CLEAN = 0.4
PATTERN = AdditivePattern(12 / 255)
MOST = 0.35
NULL = Null(2.0, 0.1, 5, 4, own_family=True, source="5 clean encoders of a kind", prior=0.15)


def at(x: float) -> float:
    return similarity_at(x, CLEAN)


def row(full: float, half: float):
    """The row for these x."""
    return growth_row(PATTERN, [at(full), at(full / 2)], at(half), CLEAN, NULL, MOST, ALARM, DOUBT)


def test_growth_is_how_often_the_response_doubles() -> None:
    assert growth(at(0.8), at(0.1), CLEAN) == pytest.approx(3)
    assert growth(at(0.4), at(0.1), CLEAN) == pytest.approx(2)
    assert half_of(PATTERN).amplitude == pytest.approx(6 / 255)


@pytest.mark.parametrize(("full", "half"), [(0.4, 0.001), (0.4, -0.1), (-0.1, 0.1), (0.0, 0.1)])
def test_what_hardly_acts_is_not_compared(full: float, half: float) -> None:
    assert growth(at(full), at(half), CLEAN) is None
    assert row(full, half) is None


def test_what_reaches_no_more_than_on_clean_encoders_has_switched_nothing_on() -> None:
    assert row(MOST - 0.01, 0.02) is None
    assert row(MOST + 0.01, 0.02) is not None


def test_the_threshold_is_what_half_the_strength_leads_one_to_expect() -> None:
    found = row(0.8, 0.1)
    assert found is not None and found.half == pytest.approx(at(0.1))
    assert remaining_gap(found.threshold, CLEAN) == pytest.approx(0.1 * 2 ** NULL.limit(ALARM))
    assert found.expected == pytest.approx(at(0.4))
    assert found.expected < found.doubtful < found.threshold < found.score
    assert found.scores == (at(0.8), at(0.4)) and found.score == at(0.8)
    assert found.excess == pytest.approx((3 - NULL.limit(ALARM)) * PRIOR_DEVIATION / 0.15)


def test_a_switch_is_a_backdoor_however_little_alike_it_makes_features() -> None:
    level = compared(
        "additive pattern, 12/255", "additive@0.04706", [at(0.8)], CLEAN, Null(0.4, 0.3, 5, 4, True, "others")
    )
    switch, proportional = row(0.8, 0.1), row(0.8, 0.2)
    assert switch is not None and proportional is not None
    judged = judge_hypotheses([level, switch])
    assert judged.verdict is Verdict.BACKDOORED and judged.only == switch.key
    assert "switches something on" in judged.reasons[0] and "half its strength reaches" in judged.reasons[0]
    assert judge_hypotheses([level, proportional]).verdict is Verdict.CLEAN
    between = row(0.1 * 2 ** ((NULL.limit(ALARM) + NULL.limit(DOUBT)) / 2), 0.1)
    assert between is not None
    assert judge_hypotheses([level, between]).verdict is Verdict.INCONCLUSIVE


def test_clean_encoders_of_all_families_stand_behind_it() -> None:
    observed = shipped_observations()
    key = growth_key(PATTERN)
    assert all(key in one.scores for one in observed)
    own, stranger = (
        growth_null(PATTERN, observed[0].family, observed),
        growth_null(PATTERN, "nothing like it", observed),
    )
    assert own is not None and stranger is not None
    assert own.own_family and not stranger.own_family
    assert own.limit(ALARM) < stranger.limit(ALARM)
    for one in observed:
        null = growth_null(PATTERN, one.family, observed)
        assert null is not None and math.isfinite(one.scores[key]) and one.scores[key] < null.limit(DOUBT)


def test_without_measured_encoders_there_is_no_such_row() -> None:
    assert growth_null(PATTERN, "resnet", ()) is None
