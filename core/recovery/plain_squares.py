"""The fifth kind of trigger: a plain square, looked for without gradients and without knowing where it leads.

An encoder may answer to a whole opaque patch and to nothing less. BadEncoder taught a MobileNetV2 a white square of
10x10 pixels: one that is a pixel smaller on each side does half as much, any patch of 6x6 next to nothing, and no slope
is left for a gradient to follow. Trying squares of every colour at every other position costs forward passes alone, and
finds it.

A bright square makes features somewhat alike on any encoder, and on dull images very much so, wherever it lies. So what
counts is what a square does at *one* place, beyond what the same square does elsewhere: with x of ``nulls``,

    x(here) - median of x(elsewhere).

Not in the paper; why so: ``docs/adr/0019-plain-squares-without-gradients.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.ops.cosine import pairwise_similarity
from core.passes import Passes, Workload
from core.recovery.hypotheses import WindowPattern, kind_key
from core.recovery.nulls import remaining_gap, similarity_at
from core.recovery.patch_dictionary import Climb, find_squares, square_passes
from core.recovery.preconditions import clean_similarity
from core.recovery.search import Candidate, judge
from core.recovery.squares import COLOURS, Square, score_squares, squares_of
from core.run import Run
from core.types import Encoder, Images

STAGE = "scan plain squares"
PLAIN_SQUARE = "plain-square"
"""The kind of :class:`PlainSquare`."""
_RELATIVE_SIDES = (1.0, 5 / 6, 2 / 3)
"""Sides of the grid's squares, relative to the largest: each covers those a little smaller, wherever they lie."""
_CLIMBERS, _MOVES = 12, 4
_ELSEWHERE, _PLACED = 0.25, 8
"""Up to which overlap a square lies elsewhere, and how many times the images of the grid tell what it does there."""


@dataclass(frozen=True)
class PlainSquare(WindowPattern):
    """One square of those whose sides are at most ``largest`` pixels, the share ``bound`` of the shorter side."""

    largest: int

    @property
    def name(self) -> str:
        return f"plain square of up to {self.largest}x{self.largest} pixels at one place"

    @property
    def key(self) -> str:
        return kind_key(PLAIN_SQUARE, self.bound)


@dataclass(frozen=True)
class SquareSettings:
    """The largest ``side`` and the ``stride`` of the grid, in units of the image's shorter side; each square of the
    grid is judged on ``images``, twice as many while climbing."""

    side: float
    stride: float
    images: int

    def grid(self, height: int, width: int) -> list[Square]:
        short = min(height, width)
        stride = max(1, round(self.stride * short))
        sides = {max(2, round(relative * self.largest(height, width))) for relative in _RELATIVE_SIDES}
        return [square for side in sorted(sides) for square in squares_of(side, stride, height, width)]

    @property
    def placed(self) -> int:
        """Images that tell what a square does elsewhere: 48 of the default's."""
        return _PLACED * self.images

    def largest(self, height: int, width: int) -> int:
        return max(2, round(self.side * min(height, width)))


def square_stage(settings: SquareSettings, load: Workload, held_back: int) -> dict[str, Passes]:
    """Stage name -> encoder passes of :func:`search_squares`, judged on so many images ``held_back``."""
    grid = settings.grid(load.height, load.width)
    searching = square_passes(len(grid), 2 * settings.images, Climb(_CLIMBERS, _MOVES), load)
    elsewhere = len(_places(settings.largest(load.height, load.width), load.height, load.width)) // len(COLOURS)
    judging = held_back + _CLIMBERS * (min(settings.placed, held_back) * elsewhere + held_back)
    return {STAGE: searching + Passes(forward=judging)}


def search_squares(
    encoder: Encoder, images: Images, held_back: Images, settings: SquareSettings, run: Run
) -> list[Candidate]:
    """Plain squares that make features alike at one place, judged on ``held_back``, best first; one per climb.

    Args:
        encoder: frozen. images: ``[N, 3, H, W]``, of which the first few are used. held_back: ``[M, 3, H, W]``.
    """
    height, width = images.shape[-2:]
    largest = settings.largest(height, width)
    grid = settings.grid(height, width)
    climb = Climb(_CLIMBERS, _MOVES, largest, lambda scores: _beyond_its_like(scores, grid))
    found = find_squares(encoder, images[: 2 * settings.images], pairwise_similarity, grid, climb, run, stage=STAGE)
    floor = clean_similarity(encoder, held_back)
    judged = [_at_one_place(encoder, held_back, square, settings, floor) for square, _ in found]
    return sorted(judged, key=lambda candidate: -candidate.score)


def _beyond_its_like(similarities: Tensor, grid: Sequence[Square]) -> Tensor:
    """``similarities`` ``[G]`` of ``grid`` as x, less the median of the squares of the same size and colour."""
    x = -(1 - similarities).clamp_min(1e-6).log()
    kinds: dict[tuple[int, int], list[int]] = {}
    for index, square in enumerate(grid):
        kinds.setdefault((square.side, square.colour), []).append(index)
    for alike in kinds.values():
        x[alike] -= x[alike].median()
    return x


def _at_one_place(
    encoder: Encoder, held_back: Images, square: Square, settings: SquareSettings, floor: float
) -> Candidate:
    """``square`` judged on ``held_back``, less what it does elsewhere; ``floor`` is clean images' similarity."""
    height, width = held_back.shape[-2:]
    places = [s for s in _places(square.side, height, width) if s.colour == square.colour]
    others = [place for place in places if place.overlap(square) <= _ELSEWHERE] or places
    elsewhere = score_squares(encoder, held_back[: settings.placed], pairwise_similarity, others).median()
    largest = settings.largest(height, width)
    window = PlainSquare(square.top, square.left, square.side, settings.side, largest)
    candidate = square_candidate(encoder, held_back, square, window)
    here = remaining_gap(candidate.similarity, max(floor, float(elsewhere)))
    return replace(candidate, location_adjusted=similarity_at(here, floor))


def _places(side: int, height: int, width: int) -> list[Square]:
    """Where a square of ``side`` pixels is looked at elsewhere, the corners and the middles of an image, in one colour
    after another."""
    return squares_of(side, max(1, (min(height, width) - side) // 2), height, width)


def square_candidate(encoder: Encoder, held_back: Images, square: Square, window: WindowPattern) -> Candidate:
    """``square``, which covers ``window``, judged on ``held_back``."""
    colour = torch.tensor(COLOURS[square.colour], device=held_back.device).view(3, 1, 1)
    # The inverse of the window's sigmoid(2 raw), kept finite at the colours 0 and 1.
    raw = torch.logit(colour, eps=1e-4).expand(3, *held_back.shape[-2:]) / 2
    return judge(encoder, held_back, window, raw[None])[0]
