"""The masks of cluster activation masking (PoisonCAM Sec. IV-B, VI-D, Fig. 3) and what masked pixels become.

Masks lie on a torus: a window that leaves the image on one side comes back on the other (Sec. VI). They are drawn once
and shared by all images, so that all attention maps are one matrix product.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from core.random import generator
from core.types import Encoder, Images

Strategy = Literal["full", "interval", "random"]
Positions = Literal["even", "random"]
Fill = Literal["mean", "black", "blur"]

_BLOCKS = 4
"""Blocks along a window's side in the interval and random strategies; the paper: w' much smaller than w."""


def draw_masks(
    count: int, window: int, size: tuple[int, int], *, strategy: Strategy, positions: Positions, seed: int
) -> Tensor:
    """``[B, H, W]`` bool, True where a pixel is masked; B is ``count``, with even positions the nearest square number.

    Even positions form a lattice on the torus, which covers every pixel (nearly) equally often; random ones leave the
    coverage, Eq. 3's denominator, to chance, and at 32 pixels some pixels almost bare.
    """
    height, width = size
    random = generator(seed, "masks", window)
    if positions == "even":
        side = max(1, round(count**0.5))
        rows = torch.arange(side).mul(height).div(side, rounding_mode="floor").repeat_interleave(side)
        columns = torch.arange(side).mul(width).div(side, rounding_mode="floor").repeat(side)
    else:
        rows = torch.randint(height, (count,), generator=random)
        columns = torch.randint(width, (count,), generator=random)
    # A pixel's place inside each window, counted on the torus.
    down = (torch.arange(height) - rows[:, None]) % height
    right = (torch.arange(width) - columns[:, None]) % width
    inside = (down < window)[:, :, None] & (right < window)[:, None, :]
    if strategy == "full":
        return inside
    block = max(1, window // _BLOCKS)
    block_row, block_column = down[:, :, None] // block, right[:, None, :] // block
    if strategy == "interval":
        return inside & ((block_row + block_column) % 2 == 0)
    across = -(-window // block)
    order = torch.rand(len(rows), across * across, generator=random).argsort(1).argsort(1)
    chosen = order < (across * across + 1) // 2
    index = (block_row.clamp_max(across - 1) * across + block_column.clamp_max(across - 1)).flatten(1)
    return inside & chosen.gather(1, index).view_as(inside)


def filling(encoder: Encoder, images: Images, fill: Fill, window: int) -> Images:
    """What masked pixels of ``images`` ``[N, 3, H, W]`` become, broadcastable to them.

    ``mean`` is zero *after* the encoder's normalisation, as PatchSearch's code blocks pixels; ``black`` is zero before
    it, the paper's words taken literally.
    """
    if fill == "mean":
        return encoder.mean.clamp(0, 1)
    if fill == "black":
        return torch.zeros_like(encoder.mean)
    kernel = 2 * (window // 2) + 1
    padded = functional.pad(images, [kernel // 2] * 4, mode="replicate")
    return functional.avg_pool2d(padded, kernel, stride=1)
