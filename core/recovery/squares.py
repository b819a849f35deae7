"""Plain squares as triggers: one colour, opaque, anywhere in the image. They need no gradient, only places to try."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.micro_batches import room
from core.recovery.forward import features_of
from core.types import Encoder, Features, Images

COLOURS = (
    (0.0, 0.0, 0.0),
    (1.0, 1.0, 1.0),
    (1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, 0.0, 1.0),
    (1.0, 1.0, 0.0),
    (0.0, 1.0, 1.0),
    (1.0, 0.0, 1.0),
    (0.5, 0.5, 0.5),
)
"""The corners of the colour cube, and grey."""

Score = Callable[[Features], Tensor]
"""Features ``[K, N, D]`` of K squares on N images -> how much each square does, ``[K]``."""

_FORWARD, _SMALL = 384, 64 * 64
"""Images in one forward pass, up to how many pixels each; of larger ones fewer, which bounds the memory."""


@dataclass(frozen=True)
class Square:
    """A plain square: its top-left pixel, its side in pixels, its colour's index in ``COLOURS``."""

    top: int
    left: int
    side: int
    colour: int

    def stamp_(self, images: Images) -> None:
        """Paint the square over ``images`` ``[..., 3, H, W]`` in place."""
        inside = images[..., self.top : self.top + self.side, self.left : self.left + self.side]
        for channel, level in enumerate(COLOURS[self.colour]):
            inside[..., channel, :, :] = level  # a number needs no copy to the device, as a tensor would

    def fits(self, height: int, width: int) -> bool:
        inside = self.top >= 0 and self.left >= 0 and self.top + self.side <= height and self.left + self.side <= width
        return inside and self.side >= 2

    def overlap(self, other: Square) -> float:
        """The pixels that both cover, as a share of those that one of them does."""
        rows = min(self.top + self.side, other.top + other.side) - max(self.top, other.top)
        columns = min(self.left + self.side, other.left + other.side) - max(self.left, other.left)
        both = max(0, rows) * max(0, columns)
        return both / (self.side**2 + other.side**2 - both)


def squares_of(side: int, stride: int, height: int, width: int) -> list[Square]:
    """Squares of one size in all colours, ``stride`` pixels apart; the last row and column touch the border."""
    return [
        Square(top, left, side, colour)
        for top in _starts(height, side, stride)
        for left in _starts(width, side, stride)
        for colour in range(len(COLOURS))
    ]


@torch.no_grad()
def score_squares(encoder: Encoder, images: Images, score: Score, squares: Iterable[Square]) -> Tensor:
    """``score`` of what ``images`` ``[N, 3, H, W]`` become with each square pasted on; one per square, on the CPU."""
    squares = list(squares)
    at_once = _FORWARD * min(1.0, _SMALL / (images.shape[-2] * images.shape[-1]))
    chunk = max(1, min(int(at_once), room(encoder, images, learning=False)) // len(images))
    return torch.cat([_scored(encoder, images, score, squares[i : i + chunk]) for i in range(0, len(squares), chunk)])


def _scored(encoder: Encoder, images: Images, score: Score, squares: Sequence[Square]) -> Tensor:
    stamped = images.repeat(len(squares), 1, 1, 1)
    for square, of_square in zip(squares, stamped.split(len(images)), strict=True):
        square.stamp_(of_square)
    return score(features_of(encoder, stamped).view(len(squares), len(images), -1)).cpu()


def _starts(length: int, side: int, stride: int) -> list[int]:
    return sorted({*range(0, length - side + 1, stride), length - side})
