"""NT-Xent, the contrastive loss of SimCLR (Chen et al., ICML 2020, Eq. 1), without any further package."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(projections: Tensor, temperature: float) -> Tensor:
    """NT-Xent of ``[2B, d]`` projections, rows i and B + i being the two views of one image; a scalar."""
    unit = functional.normalize(projections, dim=1)
    similarity = unit @ unit.T / temperature
    similarity = similarity.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), -math.inf)
    positive = torch.arange(len(unit), device=unit.device).roll(len(unit) // 2)
    return functional.cross_entropy(similarity, positive)
