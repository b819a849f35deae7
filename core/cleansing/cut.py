"""Where the poison classifier's scores are cut, and how they are spread.

The classifier learns from as many stamped images as plain ones, while of a set only a few in a hundred are poisoned:
at the papers' cut of 0.5 most of what lies just above is clean. How far the poisoned images lie from it depends on how
well the trigger was learnt, so the cut goes where the fewest images are, between both. The images in which the trigger
was found say where the poisoned ones begin: the classifier has seen their patches, but never them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.cleansing.result import ScoreDistribution

LEAST_CUT, LARGEST_CUT = 0.5, 0.8
"""Never below the papers' argmax; never so high that a trigger which was learnt half is cut away."""
LARGEST_BESIDE_MATCHES = 0.99
"""The same where most images with the trigger are known by its pixels, and removed for them."""
BANDWIDTH = 0.05
"""Of the Gaussian that smooths the scores. A valley narrower than this is chance."""

_PLACES = 31


KNOWN_BELOW = 0.1
"""Share of the images that are known to be poisoned which may lie below the cut: a few are there by mistake."""


def valley(scores: Tensor, known: Tensor, *, least: float = LEAST_CUT, largest: float = LARGEST_CUT) -> float:
    """The place between ``least`` and ``largest`` where the density of ``scores`` ``[N]``, smoothed, is least; the
    lowest of several. ``known`` ``[M]`` are the scores of images in which the trigger was found: most of them lie above
    the cut."""
    if len(known):
        largest = min(largest, max(least, float(known.double().quantile(KNOWN_BELOW))))
    places = torch.linspace(least, largest, _PLACES, dtype=torch.float64)
    density = torch.stack([torch.exp(-0.5 * ((scores.double() - place) / BANDWIDTH) ** 2).sum() for place in places])
    return round(float(places[density.argmin()]), 2)


def distribution(scores: Tensor, cut: float, bins: int = 50) -> ScoreDistribution:
    """Histogram of the classifier's ``scores`` ``[N]`` over [0, 1]."""
    counts = torch.histc(scores, bins, 0.0, 1.0)
    edges = torch.linspace(0, 1, bins + 1)
    return ScoreDistribution(tuple(edges.tolist()), tuple(int(count) for count in counts), cut)
