"""The null distribution, against data whose distribution is known."""

import numpy as np
import pytest
from scipy import stats

from core.decision.null_distribution import NullDistribution, Sample, Tail, fitted, left_out


def sample(recipes=30, seeds=3, *, family=0.0, recipe=0.0, slope=0.0, rest=0.3, seed=0):
    """Encoders of so many recipes over four families, with effects of these deviations."""
    random = np.random.default_rng(seed)
    of_family = dict(zip("abcd", random.normal(0, family, 4) if family else np.zeros(4), strict=True))
    values, coordinates, families, names = [], [], [], []
    for number in range(recipes):
        own = random.normal(0, recipe) if recipe else 0.0
        for _ in range(seeds):
            x = random.normal(0, 1, 2)
            values.append(1 + of_family["abcd"[number % 4]] + own + slope * x[0] + random.normal(0, rest))
            coordinates.append(x)
            families.append("abcd"[number % 4])
            names.append(f"recipe {number}")
    return Sample(np.array(values), np.array(coordinates), families, names)


def test_scatter_alone_gives_its_mean_and_deviation():
    predicted = fitted(sample()).predict(np.zeros(2), "a")
    assert predicted.mean == pytest.approx(1, abs=0.1)
    assert predicted.deviation == pytest.approx(0.3, rel=0.25)


def test_a_slope_is_followed():
    model = fitted(sample(slope=0.5))
    rise = model.predict(np.array([1.0, 0.0]), "a").mean - model.predict(np.array([-1.0, 0.0]), "a").mean
    assert rise == pytest.approx(1.0, rel=0.15)


def test_an_unknown_family_has_a_wider_distribution():
    model = fitted(sample(family=0.8, seed=3))
    assert model.predict(np.zeros(2), "unknown").deviation > 1.5 * model.predict(np.zeros(2), "a").deviation


def test_a_family_is_shrunk_towards_the_others():
    known = sample(recipes=4, seeds=1, family=0.0)
    values = known.values.copy()
    values[0] = 3.0
    shifted = Sample(values, known.coordinates, known.families, known.recipes)
    model = NullDistribution(shifted, {"family": 0.5, "recipe": 0.2, "context": 0.01, "rest": 0.3, "growth": 0.0})
    assert 1.0 < model.predict(np.zeros(2), "a").mean < 3.0
    assert model.predict(np.zeros(2), "a").mean > model.predict(np.zeros(2), "b").mean


def test_far_from_all_that_was_measured_the_prediction_is_wide():
    model = fitted(sample(slope=0.5))
    assert model.predict(np.array([8.0, 0.0]), "a").deviation > model.predict(np.zeros(2), "a").deviation


def test_leaving_a_recipe_out_leaves_all_its_seeds_out():
    known = sample(recipes=8, recipe=1.0, rest=0.05, seed=1)
    scales = {"family": 0.01, "recipe": 1.0, "context": 0.01, "rest": 0.05, "growth": 0.0}
    # With a sister in the sample an encoder would be predicted to a twentieth of this.
    assert np.abs(left_out(known, scales)).mean() > 0.5


def test_p_values_of_further_clean_encoders_are_uniform_or_larger():
    model = fitted(sample(family=0.3, recipe=0.2, seed=5))
    fresh = sample(family=0.0, recipe=0.2, seed=6)
    p = np.array([model.predict(x, "new").p_value(v) for x, v in zip(fresh.coordinates, fresh.values, strict=True)])
    assert (p < 0.05).mean() <= 0.1
    assert (p < 0.001).sum() == 0


def test_the_tail_is_students():
    predicted = NullDistribution(
        sample(), {"family": 0.1, "recipe": 0.1, "context": 0.1, "rest": 0.3, "growth": 0.0}, Tail(4, 1.5)
    )
    at = predicted.predict(np.zeros(2), "a")
    assert at.p_value(at.mean) == pytest.approx(0.5)
    assert at.p_value(at.mean + 3 * at.deviation) == pytest.approx(stats.t.sf(2, 4))


def test_heavy_tails_are_seen():
    light, known = sample(seed=2), sample(seed=2)
    values = known.values.copy()
    values[::15] += 1.5
    heavy = fitted(Sample(values, known.coordinates, known.families, known.recipes))
    at = np.zeros(2), "a"
    assert heavy.predict(*at).p_value(3.0) > 10 * fitted(light).predict(*at).p_value(3.0)


def test_scatter_grows_with_the_spread():
    known = sample(recipes=60)
    grown = known.values + (known.values - 1) * np.where(known.coordinates[:, -1] > 0.5, 3.0, 0.0)
    model = fitted(Sample(grown, known.coordinates, known.families, known.recipes))
    deviations = [model.predict(np.array([0.0, at]), "a").deviation for at in (0.0, 1.5)]
    assert deviations[1] > 2 * deviations[0]
