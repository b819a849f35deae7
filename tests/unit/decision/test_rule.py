"""From evidence to a verdict."""

from dataclasses import replace

import numpy as np
import pytest

from core.decision.evidence import Context, Evidence, Examination
from core.decision.null_distribution import fitted
from core.decision.population import Calibration, Fit, ReferenceEncoder, calibrations_json, read_calibrations
from core.decision.rule import Outcome, decide, fitted_odds, holm, probability_of

CONTEXT = Context("torchvision/resnet18", 32, 0.4, 0.25, 200, 2.0, 0.5)


def examination(masked=1.5, additive=0.3, context=CONTEXT, missing=()):
    rows = (Evidence("masked", 0.03, masked, {"another target": 1.0}), Evidence("additive", 0.05, additive))
    return Examination(context, rows, missing)


@pytest.fixture(scope="module")
def calibration():
    random = np.random.default_rng(0)
    encoders = tuple(
        ReferenceEncoder(
            f"clean-{recipe}-{seed}",
            f"recipe-{recipe}",
            "calibration",
            f"{recipe}{seed}",
            None,
            examination(
                1.5 + random.normal(0, 0.2),
                0.3 + random.normal(0, 0.03),
                Context(
                    "torchvision/resnet18" if recipe % 2 else "timm/vit",
                    [32, 64, 224][recipe % 3],
                    0.4 + 0.02 * (recipe % 5),
                    0.25,
                    [100, 200, 500][seed],
                    2.0,
                    0.5,
                ),
            ),
        )
        for recipe in range(20)
        for seed in range(3)
    )
    bare = Calibration("default", {"steps": 10}, encoders)
    nulls = {key: fitted(bare.sample(key)) for key in ("masked@0.03", "additive@0.05")}
    return replace(bare, fits={key: Fit(n.scales, n.tail) for key, n in nulls.items()}, odds=(-4.0, 2.0))


def test_what_clean_encoders_show_is_clean(calibration):
    decision = decide(examination(), calibration)
    assert decision.outcome is Outcome.CLEAN
    assert decision.p_value > 0.05
    assert decision.probability < 0.1


def test_what_no_clean_encoder_shows_is_a_backdoor(calibration):
    decision = decide(examination(masked=5.0), calibration)
    assert decision.outcome is Outcome.BACKDOORED
    assert decision.p_value < 0.001
    assert decision.probability > 0.5
    assert decision.decisive.evidence.search == "masked"


def test_between_the_two_the_answer_is_inconclusive(calibration):
    decision = decide(examination(masked=2.05), calibration)
    assert 0.001 < decision.p_value < 0.05
    assert decision.outcome is Outcome.INCONCLUSIVE


def test_nothing_is_called_clean_where_a_search_is_missing(calibration):
    decision = decide(examination(missing=("decree@0.99",)), calibration)
    assert decision.outcome is Outcome.INCONCLUSIVE
    assert "decree@0.99" in decision.objections[0]


def test_a_missing_search_acquits_nobody_of_what_another_found(calibration):
    assert decide(examination(masked=5.0, missing=("decree@0.99",)), calibration).outcome is Outcome.BACKDOORED


def test_a_search_with_other_bounds_acquits_nobody(calibration):
    other = Examination(CONTEXT, (*examination().evidence, Evidence("masked", 0.05, 9.0)))
    decision = decide(other, calibration)
    assert decision.outcome is Outcome.INCONCLUSIVE
    assert decision.judged[2].p_value is None
    assert "masked@0.05" in decision.objections[0]


@pytest.mark.parametrize(
    ("change", "named"),
    [({"side": 16}, "side"), ({"contrast": 0.1}, "contrast"), ({"images": 10}, "number of images")],
)
def test_outside_what_was_measured_nothing_is_concluded(calibration, change, named):
    decision = decide(examination(masked=5.0, context=replace(CONTEXT, **change)), calibration)
    assert decision.outcome is Outcome.INCONCLUSIVE
    assert named in decision.objections[0]
    assert str(next(iter(change.values()))) in decision.objections[0]


def test_more_evidence_means_a_smaller_p_and_a_higher_probability(calibration):
    decisions = [decide(examination(masked=x), calibration) for x in (1.0, 1.5, 2.0, 3.0, 5.0)]
    p = [one.p_value for one in decisions]
    assert p == sorted(p, reverse=True)
    assert [one.probability for one in decisions] == sorted(one.probability for one in decisions)


def test_holm_is_the_step_down_adjustment():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_odds_are_even_where_both_kinds_are_alike():
    odds = fitted_odds([1e-2] * 10, [1e-2] * 3)
    assert probability_of(1e-2, odds) == pytest.approx(0.5, abs=0.01)


def test_odds_follow_the_evidence():
    odds = fitted_odds([0.5, 0.2, 0.05, 0.9] * 5, [1e-5, 1e-8, 1e-3, 1e-6])
    assert probability_of(0.5, odds) < 0.1
    assert probability_of(1e-6, odds) > 0.9


def test_a_file_gives_back_the_same_decision(calibration):
    again = read_calibrations(calibrations_json([calibration], {"images": "photographs"}))[0]
    for masked in (1.5, 2.3, 5.0):
        seen = examination(masked=masked)
        assert decide(seen, again).p_value == pytest.approx(decide(seen, calibration).p_value, rel=0.01)


@pytest.mark.parametrize("text", ["{}", "[]", '{"format": "encoder-audit-calibration/1", "calibrations": [{}]}'])
def test_another_file_is_refused(text):
    with pytest.raises(ValueError, match=r"format|missing"):
        read_calibrations(text)
