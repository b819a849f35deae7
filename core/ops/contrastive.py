"""NT-Xent, SimCLR's loss (Chen et al. 2020, Eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from core.ops.cosine import unit


def nt_xent(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Each view must pick its partner among the 2B - 1 other views; mean cross-entropy over all 2B, a scalar.

    ``first`` and ``second`` ``[B, D]`` are two views of the same B images; lengths do not matter, directions do.
    """
    z = unit(torch.cat([first, second]))
    similarity = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    partner = torch.arange(len(z), device=z.device).roll(len(first))
    return cross_entropy(similarity, partner)
