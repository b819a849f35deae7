"""Images put together from two others: halves side by side on a canvas of the set's usual shape.

The loader (``core.images.decode``) scales an image until it covers a square and cuts off what is over at two sides. An
image twice as wide as high would lose the outer half of each part. So the canvas has the shape of the set's other
images, which also keeps its shape from betraying it, and what matters (an object, a trigger) stays inside the square in
its middle.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from core.attacks.poison_plan import Box
from core.attacks.source_set import Pixels


def middle_square(canvas: tuple[int, int]) -> Box:
    """The part of a canvas (height, width) that the loader keeps for a square encoder."""
    height, width = canvas
    side = min(canvas)
    return Box((height - side) // 2, (width - side) // 2, side, side)


def halves(box: Box, *, side_by_side: bool) -> tuple[Box, Box]:
    """The left and the right half of ``box``, or the upper and the lower."""
    if side_by_side:
        first = box.width // 2
        return (
            Box(box.top, box.left, box.height, first),
            Box(box.top, box.left + first, box.height, box.width - first),
        )
    first = box.height // 2
    return (
        Box(box.top, box.left, first, box.width),
        Box(box.top + first, box.left, box.height - first, box.width),
    )


def overlap(one: Box, other: Box) -> Box:
    """The rectangle that two overlapping boxes have in common."""
    top, left = max(one.top, other.top), max(one.left, other.left)
    bottom = min(one.top + one.height, other.top + other.height)
    right = min(one.left + one.width, other.left + other.width)
    return Box(top, left, bottom - top, right - left)


def paste(canvas: Pixels, part: Pixels, box: Box) -> None:
    """Write ``part``, which has the size of ``box``, onto ``canvas``."""
    canvas[:, box.top : box.top + box.height, box.left : box.left + box.width] = part


def paste_image(canvas: Pixels, pixels: Pixels, half: Box) -> None:
    """Let the image ``pixels`` cover ``half`` of ``canvas``, its own middle as near as can be to the middle of what the
    loader keeps of that half."""
    kept = overlap(half, middle_square((canvas.shape[1], canvas.shape[2])))
    height, width = pixels.shape[1:]
    scale = max(half.height / height, half.width / width)
    down = _centring(scale * height, half.height, kept.top - half.top + kept.height / 2)
    across = _centring(scale * width, half.width, kept.left - half.left + kept.width / 2)
    paste(canvas, cover(pixels, (half.height, half.width), (across, down)), half)


def _centring(extent: float, room: float, middle: float) -> float:
    """What share of ``extent - room`` to cut off at the start, so that the centre of ``extent`` comes to ``middle``."""
    spare = extent - room
    return min(1.0, max(0.0, (extent / 2 - middle) / spare)) if spare > 0 else 0.5


def cover(pixels: Pixels, size: tuple[int, int], centring: tuple[float, float] = (0.5, 0.5)) -> Pixels:
    """``pixels`` scaled (bicubic, shape kept) until they cover ``size`` (height, width), and cut to it.

    ``centring`` (x, y) says what is kept: (0, 0) the upper left, (0.5, 0.5) the middle.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    fitted = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BICUBIC, centering=centring)
    return np.asarray(fitted, dtype=np.uint8).transpose(2, 0, 1).copy()


def centre_crop(pixels: Pixels, share: float) -> Pixels:
    """The square in the middle of ``pixels`` with ``share`` of its shorter side."""
    height, width = pixels.shape[1:]
    side = max(1, round(share * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[:, top : top + side, left : left + side]
