"""Do candidate windows of different images show the same pixels?

The flip test ranks windows, but something always ranks first, in a clean set as well: a ranking is no verdict. What
sets a poisoned set apart is that its best windows repeat one another: the attacker pasted one patch into images that
are otherwise unlike. Neither paper uses this; both remove images from whatever set they are given.

Blocks are compared by Lin's concordance coefficient, 2 cov(a, b) / (var a + var b + (mean a - mean b)^2), over places
and channels. Like a correlation it is 1 for equal blocks only, but a change of brightness or contrast counts against
it. The variances get that of faint noise added: flat blocks, of which any two are alike, then agree with nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from core.ops.windows import cut

BLOCK = 0.7
"""Side of the compared blocks, relative to the window: a trigger smaller than its window must still fill one."""

LARGEST_COMPARED = 12
"""Windows of more pixels a side are averaged down to about this before they are compared."""

NOISE = 6 / 255
"""Standard deviation of the noise that may lie over equal pixels (compression, resizing), on the [0, 1] scale."""

_LEVEL = 1 / 255
"""What is left of that noise in the mean of many pixels."""


@dataclass(frozen=True)
class Agreement:
    """Between M candidate windows: ``concordance`` ``[M, M]`` of the best pair of blocks, at most 1, the diagonal 0;
    ``shift`` ``[M, M, 2]``: (down, right) from the block in window i to its like in window j, in pixels."""

    concordance: Tensor
    shift: Tensor


def compare_windows(images: Tensor, top: Tensor, left: Tensor, side: int) -> Agreement:
    """Compare all pairs of windows of ``images`` ``[M, 3, H, W]`` in [0, 1]; ``top`` and ``left`` are ``[M]``."""
    step = max(1, round(side / LARGEST_COMPARED))
    windows = functional.avg_pool2d(cut(images, top, left, side), step, stride=1)
    block = max(2, round(BLOCK * (side // step)))
    across = windows.shape[-1] - (block - 1) * step
    # [M, S, 3, block * block]: every block of every window, its pixels ``step`` apart, at every place.
    blocks = (
        functional.unfold(windows, block, dilation=step).view(len(images), 3, block * block, -1).permute(0, 3, 1, 2)
    )
    means = blocks.mean(3)
    centred = (blocks - means[..., None]).flatten(2)
    variances = centred.square().mean(2) + NOISE**2
    # Of window i a coarse lattice of blocks is enough, if those of window j stand at every pixel.
    lattice = torch.arange(0, across, step)
    coarse = (lattice[:, None] * across + lattice).flatten()
    concordance = torch.zeros(len(images), len(images))
    shift = torch.zeros(len(images), len(images), 2, dtype=torch.int64)
    for number in range(len(images)):
        own = coarse.to(images.device)
        covariance = torch.einsum("sd,mtd->mst", centred[number, own], centred) / centred.shape[2]
        gap = (means[number, own][None, :, None] - means[:, None]).square().mean(3)
        value = 2 * covariance / (variances[number, own][None, :, None] + variances[:, None] + gap)
        best, place = value.flatten(1).max(1)
        concordance[number] = best.cpu()
        here, there = coarse[(place // across**2).cpu()], (place % across**2).cpu()
        shift[number] = torch.stack([there // across - here // across, there % across - here % across], 1)
    concordance.fill_diagonal_(0)
    return Agreement(concordance, shift)


def alike_outside(images: Tensor) -> Tensor:
    """Concordance ``[M, M]`` of whole images ``[M, 3, H, W]`` at 8x8: near-duplicates agree in any window, and that is
    no sign of a pasted patch."""
    small = functional.adaptive_avg_pool2d(images, 8)
    means = small.mean((2, 3))
    centred = (small - means[..., None, None]).flatten(1)
    variance = centred.square().mean(1) + _LEVEL**2
    gap = (means[:, None] - means[None]).square().mean(2)
    result: Tensor = 2 * (centred @ centred.T / centred.shape[1]) / (variance[:, None] + variance[None] + gap)
    return result.cpu()


def group_alike(alike: Tensor, *, least: int) -> list[list[int]]:
    """Groups of candidates from ``alike`` ``[M, M]`` bool: the one that is like most others and these, then again.

    The first of each group is the one the others are like. Groups of fewer than ``least`` are no groups.
    """
    free = torch.ones(len(alike), dtype=torch.bool)
    groups: list[list[int]] = []
    while True:
        neighbours = (alike & free[None] & free[:, None]).sum(1)
        hub = int(neighbours.argmax())
        if int(neighbours[hub]) + 1 < least:
            return groups
        members = [hub, *(alike[hub] & free).nonzero().flatten().tolist()]
        groups.append(members)
        free[members] = False
