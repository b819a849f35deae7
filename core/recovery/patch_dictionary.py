"""Opaque patches without gradients: a dictionary of plain squares, then hill-climbing.

Large opaque patches are where gradient search fails: soft masks reach the backdoor's embedding with scattered
adversarial pixels, and unlearning those leaves the real patch working; an encoder that answers to the whole patch alone
shows a gradient nothing at all. Plain squares in nine colours are a cheap prior; a grid over position and size is
enough to land on the slope, and climbing finds the square. Not in the paper.

Here is the dictionary that leads to a known target embedding (``towards_target``), and the climb; ``plain_squares`` has
the one that knows of none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.passes import Passes, Workload
from core.recovery.squares import Score, Square, score_squares, squares_of
from core.run import Run, StateDict
from core.types import Encoder, Images

_RELATIVE_SIDES = (0.125, 0.22, 0.32, 0.44)
"""Sides of the coarse grid's squares, in units of the image's shorter side."""

ROWS = 40
"""Squares that one step of a scan scores."""

_CROWDED = 0.6
"""Overlap from which on a climber in the same colour stands on another's toes."""


def coarse_grid(height: int, width: int) -> list[Square]:
    """Squares of four sizes, half overlapping, in all colours; the last row and column touch the border."""
    sides = [max(2, round(relative * min(height, width))) for relative in _RELATIVE_SIDES]
    return [square for side in sides for square in squares_of(side, max(1, side // 2), height, width)]


@dataclass(frozen=True)
class Climb:
    """How many of the grid's best squares start a climb, the longest climb, and the largest side that it may end in.

    ``rank`` orders the grid, given all its scores ``[G]``; by default they order it themselves.
    """

    climbers: int
    moves: int
    largest: int | None = None
    rank: Callable[[Tensor], Tensor] | None = None


_TRIED = 0.9
"""Share of a climber's neighbours that are looked at: some do not fit, and climbers that meet share theirs."""


def square_passes(grid: int, images: int, climb: Climb, load: Workload) -> Passes:
    """Encoder passes of :func:`find_squares` with so many squares in the ``grid``, on ``images``."""
    images = min(images, load.parts.training)
    near = len(_neighbours(Square(0, 0, 2, 0), _stride(load.height, load.width)))
    climbing = climb.climbers * (1 + _TRIED * climb.moves * near)
    return Passes(forward=grid * max(2, images // 2) + images * climbing)


class _State:
    """The scores of the grid so far, then the climbers: all that a resumed scan needs."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.climbers: list[list[float]] = []

    def state_dict(self) -> StateDict:
        return {"scores": list(self.scores), "climbers": [list(c) for c in self.climbers]}

    def load_state_dict(self, state: StateDict) -> None:
        self.scores, self.climbers = list(state["scores"]), [list(c) for c in state["climbers"]]


def find_squares(
    encoder: Encoder, images: Images, score: Score, grid: Sequence[Square], climb: Climb, run: Run, *, stage: str
) -> list[tuple[Square, float]]:
    """The best squares by ``score`` after climbing, with their score, best first; one per starting point.

    Args:
        images: about a dozen ``[N, 3, H, W]``; the grid uses half of them, at least two.
    """
    scan_steps = -(-len(grid) // ROWS)
    few = images[: max(2, len(images) // 2)]
    state = _State()
    for step in run.steps(stage, scan_steps + climb.moves, state=state):
        if step < scan_steps:
            state.scores += score_squares(encoder, few, score, grid[step * ROWS : (step + 1) * ROWS]).tolist()
            continue
        if step == scan_steps:
            state.climbers = _start(encoder, images, score, grid, state.scores, climb)
        state.climbers = _climb(encoder, images, score, state.climbers, climb.largest)
        run.log(similarity=max(c[4] for c in state.climbers))
    found = {_square(c): c[4] for c in state.climbers}
    return sorted(found.items(), key=lambda item: -item[1])


def _start(
    encoder: Encoder, images: Images, score: Score, grid: Sequence[Square], scores: list[float], climb: Climb
) -> list[list[float]]:
    """The grid's best squares, scored anew; at most two per position and size, and of one colour none that covers
    nearly the same pixels, so that climbers do not crowd."""
    chosen: list[Square] = []
    order = torch.tensor(scores) if climb.rank is None else climb.rank(torch.tensor(scores))
    for index in order.argsort(descending=True).tolist():
        square = grid[index]
        here = sum(replace(other, colour=square.colour) == square for other in chosen)
        if here < 2 and not any(o.colour == square.colour and o.overlap(square) > _CROWDED for o in chosen):
            chosen.append(square)
        if len(chosen) == climb.climbers:
            break
    return _rows(chosen, score_squares(encoder, images, score, chosen).tolist())


def _climb(
    encoder: Encoder, images: Images, score: Score, climbers: list[list[float]], largest: int | None
) -> list[list[float]]:
    """Each climber looks at its neighbours and moves to the best of them, if that is better than where it stands."""
    height, width = images.shape[-2:]
    most = min(height, width) if largest is None else largest
    stride = _stride(height, width)
    groups = [
        [s for s in _neighbours(_square(c), stride) if s.fits(height, width) and s.side <= most] for c in climbers
    ]
    unique = list(dict.fromkeys(s for group in groups for s in group))
    scores = dict(zip(unique, score_squares(encoder, images, score, unique).tolist(), strict=True))
    moved = []
    for climber, group in zip(climbers, groups, strict=True):
        best = max(group, key=lambda s: scores[s])
        moved += _rows([best], [scores[best]]) if scores[best] > climber[4] else [climber]
    return moved


def _stride(height: int, width: int) -> int:
    """How much larger than 32 pixels the image is, in whole numbers."""
    return max(1, round(min(height, width) / 32))


def _neighbours(square: Square, stride: int) -> list[Square]:
    """One or three pixels up, down, left, right, and as far again as the image is larger than 32 pixels (``stride``
    times); one or two pixels more or less on either border."""
    near = sorted({1, 3, stride, 3 * stride})
    moves = [replace(square, top=square.top + sign * d) for d in near for sign in (-1, 1)]
    moves += [replace(square, left=square.left + sign * d) for d in near for sign in (-1, 1)]
    moves += [replace(square, side=square.side + sign * d) for d in sorted({1, 2, stride}) for sign in (-1, 1)]
    moves += [replace(square, top=square.top - 1, left=square.left - 1, side=square.side + 1)]
    moves += [replace(square, top=square.top + 1, left=square.left + 1, side=square.side - 1)]
    return moves


def _rows(squares: list[Square], scores: list[float]) -> list[list[float]]:
    pairs = zip(squares, scores, strict=True)
    return [[square.top, square.left, square.side, square.colour, score] for square, score in pairs]


def _square(row: list[float]) -> Square:
    return Square(int(row[0]), int(row[1]), int(row[2]), int(row[3]))
