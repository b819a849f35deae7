"""Evidence in numbers that do not know the image's size."""

import math

import pytest

from core.decision.evidence import Context, Evidence, Examination, effect_of, similarity_at

CONTEXT = Context("torchvision/resnet18", 64, 0.4, 0.25, 200, 2.0, 0.5)


def test_the_effect_is_the_logarithm_of_the_spread_that_is_left():
    assert effect_of(0.4, 0.4) == 0
    assert effect_of(1 - 0.6 / math.e, 0.4) == pytest.approx(1)
    assert effect_of(0.1, 0.4) < 0


def test_similarity_is_its_inverse():
    assert similarity_at(effect_of(0.97, 0.4), 0.4) == pytest.approx(0.97)


def test_a_trigger_counts_by_what_it_does_beyond_its_strongest_control():
    evidence = Evidence("plain-square", 0.375, 4.5, {"another target": 1.5, "other places": 2.75})
    assert evidence.statistic == 1.75


def test_a_trigger_weaker_than_its_control_is_no_evidence_however_much_weaker():
    assert Evidence("masked", 0.03, 1.0, {"another target": 3.0}).statistic == 0


def test_a_control_that_spreads_features_does_not_add_to_the_evidence():
    assert Evidence("masked", 0.03, 1.0, {"another target": -0.5}).statistic == 1.0


def test_the_key_holds_the_bound_and_no_pixels():
    assert Evidence("opaque-patch", 0.19, 1.0).key == "opaque-patch@0.19"


def test_a_file_gives_back_what_was_examined():
    examination = Examination(CONTEXT, (Evidence("masked", 0.03, 1.25, {"another target": 0.5}),), ("decree@0.99",))
    assert Examination.from_json(examination.to_json()) == examination


def test_a_bound_keeps_its_key_in_a_file():
    evidence = Evidence("additive", 12 / 255, 0.3)
    kept = Examination.from_json(Examination(CONTEXT, (evidence,)).to_json()).evidence[0]
    assert kept.key == evidence.key == "additive@0.04706"
