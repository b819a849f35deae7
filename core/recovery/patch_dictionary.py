"""Opaque patches that lead to the target embedding: a dictionary of plain squares, then hill-climbing.

Large opaque patches are where gradient search fails: soft masks reach the backdoor's embedding with scattered
adversarial pixels, and unlearning those leaves the real patch working. Plain squares in nine colours are a cheap
prior; a coarse grid over position and size is enough to land on the slope, and climbing finds the square. Not in the
paper.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.ops.cosine import similarity_to
from core.recovery.forward import features_of
from core.run import Run, StateDict
from core.triggers import MaskedTrigger
from core.types import Encoder, Images

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

_RELATIVE_SIDES = (0.125, 0.22, 0.32, 0.44)
"""Sides of the coarse grid's squares, in units of the image's shorter side."""


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

    def trigger(self, height: int, width: int) -> MaskedTrigger:
        mask = torch.zeros(1, height, width)
        mask[:, self.top : self.top + self.side, self.left : self.left + self.side] = 1
        return MaskedTrigger(mask, torch.tensor(COLOURS[self.colour]).view(3, 1, 1).expand(3, height, width).clone())

    def fits(self, height: int, width: int) -> bool:
        inside = self.top >= 0 and self.left >= 0 and self.top + self.side <= height and self.left + self.side <= width
        return inside and self.side >= 2


def coarse_grid(height: int, width: int) -> list[Square]:
    """Squares of four sizes, half overlapping, in all colours; the last row and column touch the border."""
    squares = []
    for relative in _RELATIVE_SIDES:
        side = max(2, round(relative * min(height, width)))
        for top in _starts(height, side):
            for left in _starts(width, side):
                squares += [Square(top, left, side, colour) for colour in range(len(COLOURS))]
    return squares


def _starts(length: int, side: int) -> list[int]:
    stride = max(1, side // 2)
    return sorted({*range(0, length - side + 1, stride), length - side})


@torch.no_grad()
def score_squares(encoder: Encoder, images: Images, target: Tensor, squares: Iterable[Square]) -> Tensor:
    """Mean cosine to ``target`` of ``images`` with each square pasted on; one score per square, on the CPU."""
    squares = list(squares)
    chunk = max(1, 384 // len(images))
    scores = []
    for start in range(0, len(squares), chunk):
        part = squares[start : start + chunk]
        stamped = images.repeat(len(part), 1, 1, 1)
        for square, of_square in zip(part, stamped.split(len(images)), strict=True):
            square.stamp_(of_square)
        features = features_of(encoder, stamped)
        scores.append(similarity_to(features.view(len(part), len(images), -1), target).cpu())
    return torch.cat(scores)


class _Climb:
    """The scores of the grid so far, then the climbers: all that a resumed scan needs."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.climbers: list[list[float]] = []

    def state_dict(self) -> StateDict:
        return {"scores": list(self.scores), "climbers": [list(c) for c in self.climbers]}

    def load_state_dict(self, state: StateDict) -> None:
        self.scores, self.climbers = list(state["scores"]), [list(c) for c in state["climbers"]]


def find_squares(
    encoder: Encoder, images: Images, target: Tensor, run: Run, *, stage: str, climbers: int, moves: int
) -> list[tuple[Square, float]]:
    """The best squares towards ``target`` after climbing, with their cosine, best first; one per starting point.

    Args:
        images: about a dozen ``[N, 3, H, W]``; the coarse grid uses half of them. climbers: how many of the grid's
        best start a climb. moves: the longest climb.
    """
    height, width = images.shape[-2:]
    grid = coarse_grid(height, width)
    rows = 40
    scan_steps = -(-len(grid) // rows)
    few = images[: max(1, len(images) // 2)]
    state = _Climb()
    for step in run.steps(stage, scan_steps + moves, state=state):
        if step < scan_steps:
            state.scores += score_squares(encoder, few, target, grid[step * rows : (step + 1) * rows]).tolist()
            continue
        if step == scan_steps:
            state.climbers = _start(encoder, images, target, grid, state.scores, climbers)
        state.climbers = _climb(encoder, images, target, state.climbers)
        run.log(similarity=max(c[4] for c in state.climbers))
    found = {_square(c): c[4] for c in state.climbers}
    return sorted(found.items(), key=lambda item: -item[1])


def _start(
    encoder: Encoder, images: Images, target: Tensor, grid: list[Square], scores: list[float], count: int
) -> list[list[float]]:
    """The grid's best squares, at most two per position and size so that climbers do not crowd, scored anew."""
    chosen: list[Square] = []
    taken: dict[tuple[int, int, int], int] = {}
    for index in torch.tensor(scores).argsort(descending=True).tolist():
        square = grid[index]
        place = (square.top, square.left, square.side)
        if taken.get(place, 0) < 2:
            taken[place] = taken.get(place, 0) + 1
            chosen.append(square)
        if len(chosen) == count:
            break
    return _rows(chosen, score_squares(encoder, images, target, chosen).tolist())


def _climb(encoder: Encoder, images: Images, target: Tensor, climbers: list[list[float]]) -> list[list[float]]:
    """Each climber looks at its neighbours and moves to the best of them, if that is better than where it stands."""
    height, width = images.shape[-2:]
    groups = [[s for s in _neighbours(_square(c)) if s.fits(height, width)] for c in climbers]
    unique = list(dict.fromkeys(s for group in groups for s in group))
    scores = dict(zip(unique, score_squares(encoder, images, target, unique).tolist(), strict=True))
    moved = []
    for climber, group in zip(climbers, groups, strict=True):
        best = max(group, key=lambda s: scores[s])
        moved += _rows([best], [scores[best]]) if scores[best] > climber[4] else [climber]
    return moved


def _neighbours(square: Square) -> list[Square]:
    """One or three pixels up, down, left, right; one pixel more or less on either border."""
    moves = [replace(square, top=square.top + d) for d in (-3, -1, 1, 3)]
    moves += [replace(square, left=square.left + d) for d in (-3, -1, 1, 3)]
    moves += [replace(square, side=square.side + d) for d in (-2, -1, 1, 2)]
    moves += [replace(square, top=square.top - 1, left=square.left - 1, side=square.side + 1)]
    moves += [replace(square, top=square.top + 1, left=square.left + 1, side=square.side - 1)]
    return moves


def _rows(squares: list[Square], scores: list[float]) -> list[list[float]]:
    pairs = zip(squares, scores, strict=True)
    return [[square.top, square.left, square.side, square.colour, score] for square, score in pairs]


def _square(row: list[float]) -> Square:
    return Square(int(row[0]), int(row[1]), int(row[2]), int(row[3]))
