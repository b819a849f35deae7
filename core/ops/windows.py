"""Square windows of images and maps: sums, the best one, cutting out, pasting in. All batched, all on one device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from core.device import to_device


def window_sums(maps: Tensor, side: int) -> Tensor:
    """The sum in every ``side`` x ``side`` window of ``maps`` ``[N, H, W]``: ``[N, H - side + 1, W - side + 1]``.

    By an integral image, three additions a window whatever its size; in fp64, where the differences of long sums cost
    no digits that matter.
    """
    integral = functional.pad(maps.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    rows = integral[:, side:] - integral[:, :-side]
    return rows[:, :, side:] - rows[:, :, :-side]


def best_window(maps: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Top and left ``[N]`` int64 of the window with the largest sum; of equal ones the first in reading order."""
    # Sums that differ by rounding only are equal: on a flat map the first window must win on every device.
    sums = window_sums(maps, side).float()
    flat = sums.flatten(1).argmax(1)
    return flat // sums.shape[2], flat % sums.shape[2]


def cut(images: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """The window at (``top``, ``left``) ``[N]`` of each image ``[N, C, H, W]``: ``[N, C, side, side]``."""
    index = _pixel_index(images, top, left, side)
    pixels = images.flatten(2).gather(2, index[:, None].expand(-1, images.shape[1], -1))
    return pixels.view(len(images), images.shape[1], side, side)


def paste(images: Tensor, patches: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """New images ``[N, C, H, W]`` with ``patches`` ``[N, C, side, side]`` over the window at (``top``, ``left``)."""
    index = _pixel_index(images, top, left, patches.shape[-1])
    index = index[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).scatter(2, index, patches.flatten(2)).view_as(images)


def _pixel_index(images: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Positions ``[N, side * side]`` of the windows' pixels in flattened images."""
    steps = torch.arange(side, device=images.device)
    rows = to_device(top, images.device)[:, None, None] + steps[:, None]
    columns = to_device(left, images.device)[:, None, None] + steps
    return (rows * images.shape[3] + columns).flatten(1)
