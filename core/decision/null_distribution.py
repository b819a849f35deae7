"""What clean encoders show in one search: a distribution that a further clean encoder's statistic is drawn from.

A linear mixed model, fitted as a Gaussian process: statistic = mean + context effects + family + recipe + rest, all
normal, with the scales that make the data likeliest under weak priors. Clean encoders that go by colours scatter more
in all searches, so the last three scales grow with one of the coordinates, the *spread*. A suspect is of a recipe that
was never seen; of a family never seen its family effect is as wide as families differ. Tails are Student's: their scale
and degrees of freedom come from how far clean encoders lie *above* what the model predicts when their recipe is left
out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

Array = npt.NDArray[np.float64]

_SCALES = ("family", "recipe", "context", "rest", "growth")
_PRIOR_SPREAD = 1.0
"""Deviation of the log of each scale around its prior value, a third of the statistic's own deviation."""
_USUAL_GROWTH = np.log(0.3)
_FREEDOMS = (3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 30.0, 60.0)
_MOST_SPREAD = 4.0
"""The spread from which on scatter grows no further: nothing was measured there."""
_LEAST_DEVIATION = 0.05
"""Scatter that two searches of one encoder with other seeds have anyway."""


@dataclass(frozen=True)
class Sample:
    """The statistic ``values`` ``[n]`` of n clean encoders in one search, their context ``coordinates`` ``[n, k]``,
    families and recipes; ``spread`` is the number of the coordinate that scatter grows with."""

    values: Array
    coordinates: Array
    families: Sequence[str]
    recipes: Sequence[str]
    spread: int = -1

    def without(self, recipe: str) -> Sample:
        kept = [index for index, one in enumerate(self.recipes) if one != recipe]
        names = [self.families[i] for i in kept], [self.recipes[i] for i in kept]
        return Sample(self.values[kept], self.coordinates[kept], *names, self.spread)


@dataclass(frozen=True)
class Tail:
    """Student's t with ``freedom`` degrees of freedom and ``scale``, in standard deviations of the prediction."""

    freedom: float
    scale: float


@dataclass(frozen=True)
class Prediction:
    """What a further clean encoder is expected to show, and how far it may lie from that."""

    mean: float
    deviation: float
    tail: Tail

    def p_value(self, value: float) -> float:
        """The probability that a clean encoder shows ``value`` or more."""
        return float(stats.t.sf((value - self.mean) / (self.deviation * self.tail.scale), self.tail.freedom))

    def limit(self, p_value: float) -> float:
        """The value that a clean encoder reaches or exceeds with this probability."""
        return self.mean + self.deviation * self.tail.scale * float(stats.t.isf(p_value, self.tail.freedom))


class NullDistribution:
    """The model of one search; ``scales`` and ``tail`` as :func:`fitted` found them."""

    def __init__(self, sample: Sample, scales: Mapping[str, float], tail: Tail = Tail(5.0, 1.0)) -> None:
        self.sample, self.scales, self.tail = sample, dict(scales), tail

    def predict(self, coordinates: Array, family: str) -> Prediction:
        """For an encoder of ``family`` with these context coordinates ``[k]``, of a recipe of its own."""
        scales, x = self.scales, self._standard(coordinates)
        alike = np.array([one == family for one in self.sample.families], dtype=float)
        grown = float(self._grown(coordinates))
        k = scales["family"] ** 2 * grown * self._scatter * alike + scales["context"] ** 2 * (self._x @ x)
        solved = np.linalg.solve(self._covariance, np.stack([k, self._ones], axis=1))
        scattered = grown**2 * sum(scales[name] ** 2 for name in ("family", "recipe", "rest"))
        own = scattered + scales["context"] ** 2 * float(x @ x)
        beyond = 1 - float(self._ones @ solved[:, 0])
        variance = own - float(k @ solved[:, 0]) + beyond**2 / float(self._ones @ solved[:, 1])
        centred = self.sample.values - self._mean
        mean = self._mean + float(solved[:, 0] @ centred)
        return Prediction(mean, float(np.sqrt(max(variance, _LEAST_DEVIATION**2))), self.tail)

    def likelihood(self) -> float:
        """Log restricted likelihood of the sample."""
        centred = self.sample.values - self._mean
        _, log_determinant = np.linalg.slogdet(self._covariance)
        quadratic = float(centred @ np.linalg.solve(self._covariance, centred))
        return -0.5 * (quadratic + float(log_determinant) + float(np.log(self._weight)))

    @cached_property
    def _ones(self) -> Array:
        return np.ones(len(self.sample.values))

    @cached_property
    def _centre(self) -> tuple[Array, Array]:
        spread = self.sample.coordinates.std(0)
        return self.sample.coordinates.mean(0), np.where(spread > 1e-6, spread, 1.0)

    def _standard(self, coordinates: Array) -> Array:
        mean, spread = self._centre
        return np.asarray((coordinates - mean) / spread / np.sqrt(len(mean)))

    @cached_property
    def _x(self) -> Array:
        return self._standard(self.sample.coordinates)

    def _grown(self, coordinates: Array) -> Array:
        """How many times as far as at a spread of 0 encoders with these coordinates ``[..., k]`` scatter."""
        return np.asarray(
            np.exp(self.scales["growth"] * np.clip(coordinates[..., self.sample.spread], 0, _MOST_SPREAD))
        )

    @cached_property
    def _scatter(self) -> Array:
        return self._grown(self.sample.coordinates)

    @cached_property
    def _covariance(self) -> Array:
        scales = self.scales
        same = [np.array([[a == b for a in names] for b in names], float) for names in
                (self.sample.families, self.sample.recipes)]  # fmt: skip
        rest = scales["rest"] ** 2 * np.eye(len(self.sample.values))
        scattered = scales["family"] ** 2 * same[0] + scales["recipe"] ** 2 * same[1] + rest
        grown = np.outer(self._scatter, self._scatter)
        return np.asarray(scales["context"] ** 2 * (self._x @ self._x.T) + grown * scattered)

    @cached_property
    def _weight(self) -> float:
        return float(self._ones @ np.linalg.solve(self._covariance, self._ones))

    @cached_property
    def _mean(self) -> float:
        return float(self._ones @ np.linalg.solve(self._covariance, self.sample.values)) / self._weight


def fitted(sample: Sample) -> NullDistribution:
    """The likeliest scales for ``sample``, and the tail that its encoders have when their recipes are left out."""
    usual = np.log(max(float(sample.values.std()), _LEAST_DEVIATION) / 3)
    prior = np.array([usual] * (len(_SCALES) - 1) + [_USUAL_GROWTH])

    def cost(logs: Array) -> float:
        model = NullDistribution(sample, dict(zip(_SCALES, np.exp(logs), strict=True)))
        return -model.likelihood() + 0.5 * float((((logs - prior) / _PRIOR_SPREAD) ** 2).sum())

    found = optimize.minimize(cost, prior, method="Nelder-Mead", options={"maxiter": 800})
    scales = dict(zip(_SCALES, (float(one) for one in np.exp(found.x)), strict=True))
    return NullDistribution(sample, scales, _tail(left_out(sample, scales)))


def left_out(sample: Sample, scales: Mapping[str, float]) -> Array:
    """How far each encoder lies from what the others, without those of its recipe, predict; in deviations."""
    residuals = []
    for index, recipe in enumerate(sample.recipes):
        predicted = NullDistribution(sample.without(recipe), scales).predict(
            sample.coordinates[index], sample.families[index]
        )
        residuals.append((sample.values[index] - predicted.mean) / predicted.deviation)
    return np.array(residuals)


def _tail(residuals: Array) -> Tail:
    """The likeliest half of Student's t for the ``residuals`` above zero: those below say nothing of false alarms."""
    above = residuals[residuals > 0]

    def cost(freedom: float, scale: float) -> float:
        return -float(stats.t.logpdf(above / scale, freedom).sum() - len(above) * np.log(scale))

    scales = np.linspace(0.5, 2.5, 41)
    # A handful cannot tell light tails from heavy ones: a weak prior around ten degrees of freedom and a scale of 1.
    grid = [(freedom, scale) for freedom in _FREEDOMS for scale in scales]
    freedom, scale = min(grid, key=lambda at: cost(*at) + 0.5 * np.log(at[0] / 10) ** 2 + 2 * np.log(at[1]) ** 2)
    return Tail(freedom, float(scale))
