"""The orthonormal discrete cosine transform (type II) of image blocks, as two matrix products."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from core.device import to_like


def inverse_dct(coefficients: Tensor) -> Tensor:
    """Pixels ``[..., H, W]`` of orthonormal DCT-II ``coefficients`` ``[..., H, W]``; gradients flow."""
    height, width = coefficients.shape[-2:]
    rows = to_like(_basis(height), coefficients)
    columns = to_like(_basis(width), coefficients)
    return rows.T @ coefficients @ columns


@lru_cache(maxsize=8)
def _basis(size: int) -> Tensor:
    """``[k, x]``: the k-th cosine wave over ``size`` pixels, of length 1."""
    x = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi * torch.arange(size, dtype=torch.float64)[:, None] * (2 * x + 1) / (2 * size))
    basis *= math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis
