"""Several draws of the training labels as one result: a probe on few labels depends on the draw more than on anything.

A mean's 95 % interval has two parts, joined as independent ones: how far the draws differ (Student's t on their mean)
and how far another draw of test images would move each of them (the mean half-width of the draws' own intervals; the
draws share their test images, so averaging does not shrink it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np
from scipy.special import stdtrit

from core.evaluation.rates import Difference, Rate
from core.evaluation.results import ProbeResult


def mean_result(draws: Sequence[ProbeResult]) -> ProbeResult:
    """The mean of ``draws`` of one probe, which all measured the same things; a single draw is returned as it is.

    Raises:
        ValueError: no draws.
    """
    if not draws:
        raise ValueError("no draws to average")
    if len(draws) == 1:
        return draws[0]
    changes: dict[str, Rate | Difference] = {}
    for field in fields(ProbeResult):
        values = [getattr(draw, field.name) for draw in draws]
        if all(isinstance(value, Rate) for value in values):
            changes[field.name] = _mean_rate(values)
        elif all(isinstance(value, Difference) for value in values):
            changes[field.name] = _mean_difference(values)
    return replace(draws[0], draws=len(draws), **changes)  # type: ignore[arg-type]


def _mean_rate(rates: Sequence[Rate]) -> Rate:
    low, high = _interval([(rate.percent, rate.low, rate.high) for rate in rates], 0.0)
    hits, total = sum(rate.hits for rate in rates), sum(rate.total for rate in rates)
    return Rate(hits, total, 100 * hits / total, low, high)


def _mean_difference(differences: Sequence[Difference]) -> Difference:
    low, high = _interval([(d.points, d.low, d.high) for d in differences], -100.0)
    return Difference(float(np.mean([d.points for d in differences])), low, high)


def _interval(values: Sequence[tuple[float, float, float]], least: float) -> tuple[float, float]:
    """Of the mean of ``(value, low, high)``, cut at ``least`` and 100."""
    middles, lows, highs = (np.array(column) for column in zip(*values, strict=True))
    between = stdtrit(len(values) - 1, 0.975) * middles.std(ddof=1) / math.sqrt(len(values))
    below, above = (float(np.hypot(between, side.mean())) for side in (middles - lows, highs - middles))
    middle = float(middles.mean())
    return max(least, middle - below), min(100.0, middle + above)
