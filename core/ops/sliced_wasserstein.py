"""Sliced 2-Wasserstein distance between two samples of features (SSLDefender Eq. 6-8; Bonneel et al. 2015)."""

from __future__ import annotations

import torch
from torch import Tensor


def random_directions(dim: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` uniform directions as unit columns, ``[dim, count]``, on the CPU."""
    directions = torch.randn(dim, count, generator=generator)
    return torch.nn.functional.normalize(directions, dim=0)


def sliced_wasserstein(first: Tensor, second: Tensor, directions: Tensor) -> Tensor:
    """SW_2 of two samples of equal size, ``[N, D]`` each, along unit columns ``directions`` ``[D, M]``; a scalar.

    W_2^2 on a line is the mean squared gap of the sorted samples (the paper's integrand lacks the square and calls the
    quantile function a distribution function); the mean over directions is under the root.

    Raises:
        ValueError: the samples differ in size.
    """
    if first.shape != second.shape:
        raise ValueError(f"samples of equal shape expected, got {tuple(first.shape)} and {tuple(second.shape)}")
    gaps = (first.float() @ directions).sort(dim=0).values - (second.float() @ directions).sort(dim=0).values
    # The root has an infinite slope at 0, which two equal samples reach: keep the gradient finite.
    return (gaps.square().mean() + 1e-12).sqrt()
