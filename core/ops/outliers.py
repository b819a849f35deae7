"""How far single values stand out from the others, by median and median absolute deviation."""

from __future__ import annotations

import torch
from torch import Tensor

NORMAL = 1.4826
"""What makes a median absolute deviation estimate the standard deviation of normally distributed values."""


def anomaly_indices(values: Tensor) -> Tensor:
    """Signed anomaly indices ``[N]`` of ``values`` ``[N]``: (median - value) / (1.4826 MAD), positive for small values.

    Neural Cleanse (Wang et al., S&P 2019, Sec. IV-B) without its absolute value. Medians of an even number are the mean
    of the middle two. Where more than half of the values are equal the deviation is 0: equal values then have index 0
    and all others an infinite one.
    """
    exact = values.double()
    median = exact.quantile(0.5)
    gaps = median - exact
    deviation = NORMAL * gaps.abs().quantile(0.5)
    return torch.where(gaps == 0, 0.0, gaps / deviation)
