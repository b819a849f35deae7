"""Random numbers as a pure function of (seed, keys): what makes a resumed run equal an unbroken one.

Nothing in ``core`` uses torch's global generator. Step k of a stage draws from ``generator(seed, stage, k)``.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from core.device import to_device


def derive_seed(seed: int, *keys: str | int) -> int:
    """A 63-bit seed from ``seed`` and ``keys``; the same on every machine."""
    text = ":".join([str(seed), *map(str, keys)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *keys: str | int) -> torch.Generator:
    """A CPU generator for (seed, keys). Draw on the CPU and move: the numbers then agree on every device."""
    return torch.Generator().manual_seed(derive_seed(seed, *keys))


def batch_indices(total: int, size: int, seed: int, *keys: str | int) -> Tensor:
    """``min(size, total)`` distinct indices below ``total``, 1-D int64: batch k as a function of (seed, k)."""
    return torch.randperm(total, generator=generator(seed, *keys))[:size]


def draw_batch(images: Tensor, size: int, seed: int, *keys: str | int) -> Tensor:
    """``min(size, N)`` distinct rows of ``images`` ``[N, ...]``, by :func:`batch_indices`."""
    return images[to_device(batch_indices(len(images), size, seed, *keys), images.device)]
