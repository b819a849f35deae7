"""How large is the trigger? The pixels that a group of aligned candidates has in common say so.

No user knows the trigger's size, and flips alone do not tell: a larger window moves more images whatever it shows. But
in images that show the same patch the patch's pixels are equal, and those around it are not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from core.ops.windows import window_sums

TOLERANCE = 20 / 255
"""Largest median difference of a pixel between the images of a group, on the [0, 1] scale, that still belongs to the
patch. The same place of two unlike photographs differs by about 60 levels."""

LEAST_TOLERANCE = 3 / 255
"""Differences that compression makes even of equal pixels."""

LEAST_SIDE = 3


def common_square(
    images: Tensor, offsets: Tensor, *, around: tuple[int, int, int], largest: int
) -> tuple[int, int, int]:
    """Top, left and side of the square in ``images[0]`` that all ``images`` ``[M, 3, H, W]`` have in common.

    ``offsets`` ``[M, 2]``: where a pixel (y, x) of the first image is found in image i, (y, x) + offsets[i]; the first
    is (0, 0). ``around`` (top, left, side) is a window that must share pixels with the square; ``largest`` its largest
    side. The square gains by every pixel whose median difference is below a tolerance and loses by the others.
    """
    height, width = images.shape[2:]
    difference = _median_difference(images, offsets)
    # Images of one kind differ little everywhere (sky, grass): what belongs to the patch must differ less than that.
    tolerance = min(TOLERANCE, max(LEAST_TOLERANCE, float(difference.median()) / 2))
    gain = (tolerance - difference).clamp(-tolerance, tolerance)
    best, found = -float("inf"), around
    top, left, side = around
    for length in range(LEAST_SIDE, min(largest, height, width) + 1):
        sums = window_sums(gain[None], length)[0]
        rows = torch.arange(sums.shape[0])[:, None]
        columns = torch.arange(sums.shape[1])
        touching = (rows < top + side) & (rows + length > top) & (columns < left + side) & (columns + length > left)
        sums = sums.masked_fill(~touching, -torch.inf)
        place = int(sums.argmax())
        if float(sums.flatten()[place]) > best:
            best = float(sums.flatten()[place])
            found = (place // sums.shape[1], place % sums.shape[1], length)
    return found


def common_pixels(images: Tensor, offsets: Tensor, square: tuple[int, int, int]) -> Tensor:
    """The median ``[3, side, side]`` of what the aligned ``images`` show in the ``square``: top, left and side in the
    first of them. Images that have only a part of it do not count."""
    height, width = images.shape[2:]
    top, left, side = square
    pixels = [
        image[:, top + down : top + down + side, left + right : left + right + side]
        for image, (down, right) in zip(images, offsets.tolist(), strict=True)
        if 0 <= top + down <= height - side and 0 <= left + right <= width - side
    ]
    median: Tensor = torch.stack(pixels).median(0).values
    return median


def _median_difference(images: Tensor, offsets: Tensor) -> Tensor:
    """``[H, W]``: the median over images 1.. of their mean absolute difference to image 0 at the aligned pixel.

    Where fewer than half of the images have the pixel inside, it counts as different.
    """
    height, width = images.shape[2:]
    rows, columns = torch.arange(height), torch.arange(width)
    differences = []
    for image, (down, right) in zip(images[1:], offsets[1:].tolist(), strict=True):
        there_rows, there_columns = rows + down, columns + right
        inside = ((there_rows >= 0) & (there_rows < height))[:, None] & ((there_columns >= 0) & (there_columns < width))
        moved = image[:, there_rows.clamp(0, height - 1)][:, :, there_columns.clamp(0, width - 1)]
        differences.append((moved - images[0]).abs().mean(0).masked_fill(~inside, 1.0))
    median: Tensor = torch.stack(differences).median(0).values
    return median
