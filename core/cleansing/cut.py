"""Where the classifier's scores are cut, and how they are spread.

The classifier learns from as many stamped images as plain ones; in a set a few in a hundred are poisoned. Its 0.5 is
therefore not even odds: at a share pi of poison an image is as likely poisoned as not where the classifier says 1 - pi.
The share is estimated from the scores themselves, without labels (Saerens, Latinne and Decaestecker, Neural Computation
2002): the share that the corrected probabilities average to.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.cleansing.result import ScoreDistribution

LEAST_CUT, LARGEST_CUT = 0.5, 0.99
"""The cut is never below the papers' argmax, nor so high that no classifier of a few minutes reaches it."""

_ITERATIONS = 200


def poison_share(probability: Tensor) -> float:
    """The share of poison ``pi`` for which the probabilities ``[N]``, corrected from even odds to ``pi``, average to
    ``pi``: expectation maximisation from one half."""
    odds = probability.double().clamp(1e-6, 1 - 1e-6)
    odds = odds / (1 - odds)
    share = torch.tensor(0.5, dtype=torch.float64)
    for _ in range(_ITERATIONS):
        share = (share * odds / (share * odds + 1 - share)).mean()
    return float(share)


def even_odds(probability: Tensor) -> float:
    """The cut at which an image is as likely poisoned as not, given the estimated share."""
    return min(max(1 - poison_share(probability), LEAST_CUT), LARGEST_CUT)


def distribution(probability: Tensor, cut: float, bins: int = 50) -> ScoreDistribution:
    """Histogram of the classifier's probabilities over [0, 1]."""
    counts = torch.histc(probability, bins, 0.0, 1.0)
    edges = torch.linspace(0, 1, bins + 1)
    return ScoreDistribution(tuple(edges.tolist()), tuple(int(count) for count in counts), cut)
