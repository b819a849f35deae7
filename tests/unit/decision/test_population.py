"""The calibration that ships: whose evidence stands in it, and whose does not."""

from pathlib import Path

import pytest

from core.decision.population import Calibration, shipped_calibrations
from core.decision.rule import FALSE_POSITIVE_RATE, judge
from core.zoo.recipe import load_recipe

RECIPE = Path(__file__).parents[3] / "zoo" / "population.yaml"


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return shipped_calibrations()[0]


def test_no_encoder_of_the_locked_test_stands_in_it(calibration):
    entries = load_recipe(RECIPE).encoders
    locked = {name for one in entries if one.part == "test" for name in (one.name, one.recipe) if name}
    shipped = {name for one in calibration.encoders for name in (one.name, one.recipe)}
    assert shipped and not shipped & locked
    assert {one.part for one in calibration.encoders} <= {"design", "calibration"}


def test_every_encoder_stands_in_it_once_with_the_digest_of_its_weights(calibration):
    digests = [one.sha256 for one in calibration.encoders]
    assert len(set(digests)) == len(digests)
    assert all(len(digest) == 64 for digest in digests)


def test_every_search_that_was_done_has_a_null_distribution(calibration):
    keys = {evidence.key for one in calibration.encoders for evidence in one.examination.evidence}
    assert keys == set(calibration.fits)
    assert all(calibration.null(key) is not None for key in keys)


def test_no_clean_encoder_in_it_is_called_backdoored(calibration):
    p_values = [
        min(one.adjusted or 1.0 for one in judge(clean.examination, calibration)) for clean in calibration.clean
    ]
    assert min(p_values) > FALSE_POSITIVE_RATE
