"""Spatial attention of feature maps: where each of a network's stages looks.

A(F) = sum_c |F_c|^p, scaled to length 1 over places (Zagoruyko and Komodakis, ICLR 2017).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize


def attention(maps: Tensor, power: float) -> Tensor:
    """Feature maps ``[B, C, H, W]`` to attention ``[B, H * W]`` fp32, each row of length 1."""
    return normalize(maps.float().abs().pow(power).sum(1).flatten(1), dim=1)
