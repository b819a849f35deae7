"""What clean encoders score, and the limits that follow."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from core.recovery.nulls import (
    PRIOR_DEGREES,
    PRIOR_DEVIATION,
    Null,
    Observation,
    family_of,
    null_for,
    remaining_gap,
    scatter,
    similarity_at,
)


def seen(family: str, *scores: float) -> list[Observation]:
    return [Observation(f"{family} {i}", family, "0" * 64, 1, {"mask": x}) for i, x in enumerate(scores)]


def test_the_gap_counts_from_where_clean_images_are() -> None:
    assert remaining_gap(0.4, 0.4) == 0
    assert remaining_gap(0.94, 0.4) == pytest.approx(math.log(10))
    assert similarity_at(remaining_gap(0.97, 0.35), 0.35) == pytest.approx(0.97)
    assert math.isfinite(remaining_gap(1.0, 0.4))


def test_a_familys_null_has_its_own_mean_and_everybodys_scatter() -> None:
    observed = seen("a", 2.0, 2.4) + seen("b", 3.0, 3.3, 3.6)
    null = null_for("mask", "a", observed)
    assert null is not None and null.own_family and null.encoders == 2 and null.degrees == 3
    assert null.mean == pytest.approx(2.2)
    assert null.deviation == pytest.approx(math.sqrt((0.08 + 0.18) / 3))
    assert null.source == "2 clean encoders of a"
    pooled = math.sqrt((3 * null.deviation**2 + PRIOR_DEGREES * PRIOR_DEVIATION**2) / (3 + PRIOR_DEGREES))
    expected = 2.2 + student.ppf(0.99, 3 + PRIOR_DEGREES) * pooled * math.sqrt(1.5)
    assert null.limit(0.01) == pytest.approx(expected)


def test_an_unknown_family_is_held_against_all_and_the_limits_are_wider() -> None:
    observed = seen("a", 2.0, 2.1, 2.2) + seen("b", 3.4, 3.5, 3.6)
    stranger, own = null_for("mask", "c", observed), null_for("mask", "b", observed)
    assert stranger is not None and own is not None
    assert not stranger.own_family and stranger.encoders == 6
    assert stranger.limit(0.01) - stranger.mean > own.limit(0.01) - own.mean
    assert null_for("additive", "a", observed) is None
    assert null_for("mask", "c", observed[:2]) is None


def test_limits_hold_what_they_promise() -> None:
    """Of 4,000 further clean encoders of the family about one in a hundred passes the limit of 0.01."""
    random = np.random.default_rng(0)
    passed = 0
    for _ in range(4000):
        *sample, further = random.normal(2.5, PRIOR_DEVIATION, size=7)
        null = null_for("mask", "a", seen("a", *sample))
        assert null is not None
        passed += further > null.limit(0.01)
    assert 20 <= passed <= 62


def test_a_few_encoders_that_agree_by_chance_make_no_tight_limit_and_many_do() -> None:
    few, many = Null(2.0, 0.01, 3, 2, True, ""), Null(2.0, 0.01, 300, 299, True, "")
    assert few.limit(0.01) > 2.0 + 2 * 0.3
    assert many.limit(0.01) < 2.0 + 0.25


def test_a_family_of_one_has_a_null_of_its_own() -> None:
    null = null_for("mask", "a", seen("a", 2.0))
    assert null is not None and null.own_family and null.degrees == 0
    assert null.limit(0.01) == pytest.approx(2.0 + student.ppf(0.99, 10) * 0.4 * math.sqrt(2))


def test_scatter_is_within_families() -> None:
    deviation, degrees = scatter("mask", seen("a", 1.0, 1.2) + seen("b", 5.0, 5.2)) or (0, 0)
    assert (deviation, degrees) == (pytest.approx(math.sqrt(0.02)), 2)
    assert scatter("mask", seen("a", 1.0) + seen("b", 2.0)) is None


def test_families_are_architecture_and_size() -> None:
    assert family_of("torchvision/resnet18", (32, 32)) == "torchvision/resnet18 at 32x32"
    assert family_of(None, (96, 64)) == "unknown at 96x64"
