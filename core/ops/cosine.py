"""Pairwise cosine similarity without the pairwise matrix."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize


def unit(features: Tensor) -> Tensor:
    """``features`` ``[..., D]`` scaled to length 1, in fp32. Attacks on encoders control directions, not norms."""
    return normalize(features.float(), dim=-1)


def pairwise_similarity(features: Tensor) -> Tensor:
    """Mean cosine over all ordered pairs p != q of ``features`` ``[..., B, D]``; shape ``[...]``, in [-1, 1].

    SSLDefender Eq. 2-3 without its sign and without the diagonal (which adds 1/B and hides the difference between
    batch sizes). Uses S = (||sum z||^2 - B) / (B (B - 1)) for unit z: O(BD) and exact.
    """
    z = unit(features)
    count = z.shape[-2]
    return (z.sum(-2).square().sum(-1) - count) / (count * (count - 1))


def mean_direction(features: Tensor) -> Tensor:
    """The mean of the unit features ``[..., B, D]``, itself scaled to length 1: ``[..., D]``."""
    return unit(unit(features).mean(-2))


def similarity_to(features: Tensor, direction: Tensor) -> Tensor:
    """Mean cosine of ``features`` ``[..., B, D]`` to one unit ``direction`` ``[D]``; shape ``[...]``."""
    return (unit(features) @ direction.float()).mean(-1)


def paired_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of row i of ``first`` with row i of ``second``, both ``[B, D]``; shape ``[B]``."""
    return (unit(first) * unit(second)).sum(-1)
