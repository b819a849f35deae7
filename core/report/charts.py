"""Where things stand in the report's drawings; the template draws them, so that escaping stays in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.report.model import HypothesisRow
from core.report.set_model import DistributionPart

WIDTH, HEIGHT = 600.0, 160.0
THINNED = 200


@dataclass(frozen=True)
class Gauge:
    """A score on its axis against its threshold. All positions are per cent of the width; with ``towards_one`` the axis
    is logarithmic in the distance to 1."""

    name: str
    score: float
    threshold: float
    score_at: float
    threshold_at: float
    floor_at: float | None
    restarts_at: tuple[float, ...]
    low: float
    low_at: float
    high: float
    high_at: float
    towards_one: bool
    exceeded: bool
    blown_up: bool


@dataclass(frozen=True)
class Bar:
    """A bar of ``count`` images with scores from ``low`` to ``high``, in the drawing's units; ``over`` the cut."""

    x: float
    y: float
    width: float
    height: float
    count: int
    low: float
    high: float
    over: bool


@dataclass(frozen=True)
class Histogram:
    """Bars within WIDTH x HEIGHT, of logarithmic height; a bar of full height stands for ``largest`` images. Above the
    cut lie ``over``."""

    bars: tuple[Bar, ...]
    cut: float
    cut_x: float
    largest: int
    over: int


@dataclass(frozen=True)
class Curve:
    """A loss curve on a logarithmic axis: ``points`` for an SVG polyline within WIDTH x HEIGHT."""

    points: str
    first: float
    last: float
    smallest: float
    largest: float
    steps: int


def gauge(row: HypothesisRow, floor: float | None = None, beside: HypothesisRow | None = None) -> Gauge:
    """``floor`` is the clean images' similarity; it is drawn where it lies within reach of the score's axis.
    ``beside`` is the same hypothesis on the other encoder, before or after: the two axes then agree."""
    marks = [row.score, row.threshold, *row.scores]
    if beside is not None:
        marks += [beside.score, beside.threshold, *beside.scores]
    if floor is not None and min(marks) >= 0 and max(marks) <= 1:
        marks.append(floor)
    else:
        floor = None
    low, high = min(marks), max(marks)
    towards_one = low >= 0 and high <= 1
    # Similarities crowd near 1, and what tells a backdoor from a universal perturbation is the gap that is left to 1.
    first, last = (_closeness(low), _closeness(high)) if towards_one else (low, high)
    room = (last - first) * 0.06 or max(abs(last), 1.0) * 0.1

    def at(value: float) -> float:
        place = _closeness(value) if towards_one else value
        return round(100 * (place - first + room) / (last - first + 2 * room), 2)

    return Gauge(
        name=row.name,
        score=row.score,
        threshold=row.threshold,
        score_at=at(row.score),
        threshold_at=at(row.threshold),
        floor_at=None if floor is None else at(floor),
        restarts_at=tuple(at(score) for score in row.scores),
        low=low,
        low_at=at(low),
        high=high,
        high_at=at(high),
        towards_one=towards_one,
        exceeded=row.score >= row.threshold,
        blown_up=row.score in row.blown_up,
    )


def _closeness(similarity: float) -> float:
    """Decades of the gap to 1, of which four are shown."""
    return -math.log10(max(1 - similarity, 1e-4))


def histogram(distribution: DistributionPart) -> Histogram:
    """The scores on [0, 1]; a single image is still seen beside thousands."""
    largest = max(1, *distribution.counts)
    bars = []
    for low, high, count in zip(distribution.edges, distribution.edges[1:], distribution.counts, strict=False):
        if count:
            height = HEIGHT * math.log1p(count) / math.log1p(largest)
            bars.append(
                Bar(
                    x=round(WIDTH * low + 0.5, 2),
                    y=round(HEIGHT - height, 2),
                    width=round(WIDTH * (high - low) - 1, 2),
                    height=round(height, 2),
                    count=count,
                    low=low,
                    high=high,
                    # A score on the edge is not above the cut.
                    over=(low + high) / 2 > distribution.cut,
                )
            )
    over = sum(bar.count for bar in bars if bar.over)
    return Histogram(tuple(bars), distribution.cut, round(WIDTH * distribution.cut, 2), largest, over)


def loss_curve(losses: Sequence[float], steps: int | None) -> Curve | None:
    """None where there are fewer than two finite losses."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    if len(finite) < 2:
        return None
    smallest, largest = min(finite), max(finite)
    # A loss may be negative (mutual information): then the axis is linear.
    heights = [math.log10(loss) for loss in finite] if smallest > 0 else finite
    low, span = min(heights), (max(heights) - min(heights)) or 1.0
    points = (
        f"{WIDTH * i / (len(heights) - 1):.1f},{HEIGHT * (1 - (height - low) / span):.1f}"
        for i, height in enumerate(heights)
    )
    return Curve(" ".join(points), finite[0], finite[-1], smallest, largest, steps or len(finite))


def thinned(values: Sequence[float], most: int = THINNED) -> list[float]:
    """At most ``most`` of ``values``, evenly spaced, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
