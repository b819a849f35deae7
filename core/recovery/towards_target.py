"""All kinds of triggers that lead to one target embedding, for unlearning to work against."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.ops.cosine import mean_direction
from core.recovery.hypotheses import AdditivePattern, Hypothesis, MaskedPattern, WindowPattern
from core.recovery.patch_dictionary import Square, find_squares
from core.recovery.search import Candidate, judge
from core.recovery.target_embedding import candidates_near, reach
from core.run import Run
from core.types import Encoder, Images

PATTERNS: tuple[Hypothesis, ...] = (
    MaskedPattern(0.01),
    MaskedPattern(0.03),
    MaskedPattern(0.10),
    AdditivePattern(8 / 255),
    AdditivePattern(16 / 255),
)
NEAR = 0.9
"""Mean cosine to the target from which on a trigger is worth unlearning."""


NEAR_SQUARE, ALIKE = 0.8, 0.95
"""For plain squares: mean cosine to the target, and mean pairwise cosine of what they make of all images."""


@dataclass(frozen=True)
class TargetBudget:
    """``steps`` of gradient recovery for patterns and for the best windows; the window scan takes a third of that."""

    steps: int
    batch_size: int = 24
    scan_images: int = 6
    climbers: int = 6
    moves: int = 8
    windows: int = 6

    @property
    def scan_steps(self) -> int:
        return max(4, self.steps // 3)


def target_stages(budget: TargetBudget, number: int) -> dict[str, float]:
    """Stage name -> encoder passes of :func:`recover_towards` for target ``number`` (0-based), at 32 pixels."""
    names = _Stages(number)
    return {
        names.squares: 20_000.0 + budget.moves * budget.climbers * 14 * 12,
        names.patterns: 2.0 * budget.steps * budget.batch_size * len(PATTERNS),
        names.scan: 2.0 * budget.scan_steps * budget.scan_images * 74,
        names.windows: 2.0 * budget.steps * budget.batch_size * budget.windows,
    }


def recover_towards(
    encoder: Encoder,
    images: Images,
    held_back: Images,
    target: Tensor,
    budget: TargetBudget,
    run: Run,
    *,
    number: int,
    seed: int,
) -> list[Candidate]:
    """Patterns, plain squares and textured windows within cosine ``NEAR`` of ``target`` ``[D]``, judged on
    ``held_back``."""
    names = _Stages(number)
    squares = _squares(encoder, images, held_back, target, budget, run, names.squares)
    if squares:
        # A square that does what the backdoor does is nearer to the true trigger than the pattern that led to it.
        target = mean_direction(squares[0].features)

    patterns = reach(
        encoder,
        images,
        target,
        PATTERNS,
        run,
        stage=names.patterns,
        steps=budget.steps,
        batch_size=budget.batch_size,
        seed=seed,
    )
    windows = _best_windows(encoder, images, target, budget, run, names.scan, seed=seed)
    textures = reach(
        encoder,
        images,
        target,
        windows,
        run,
        stage=names.windows,
        steps=budget.steps,
        batch_size=budget.batch_size,
        seed=seed,
    )
    near_patterns = candidates_near(encoder, held_back, target, PATTERNS, patterns, NEAR)
    return squares + near_patterns + candidates_near(encoder, held_back, target, windows, textures, NEAR)


def _squares(
    encoder: Encoder, images: Images, held_back: Images, target: Tensor, budget: TargetBudget, run: Run, stage: str
) -> list[Candidate]:
    """Plain squares that lead towards ``target`` *and* make all features alike, most alike first.

    The estimate of the target may be some way off (.94 from the true one for a large opaque patch), so closeness alone
    cannot tell the trigger from a large stain; being alike does.
    """
    found = find_squares(encoder, images[:12], target, run, stage=stage, climbers=budget.climbers, moves=budget.moves)
    candidates = [_square_candidate(encoder, held_back, square) for square, cosine in found if cosine >= NEAR_SQUARE]
    alike = [candidate for candidate in candidates if candidate.similarity >= ALIKE]
    return sorted(alike, key=lambda candidate: -candidate.similarity)


def _best_windows(
    encoder: Encoder, images: Images, target: Tensor, budget: TargetBudget, run: Run, stage: str, *, seed: int
) -> list[WindowPattern]:
    """The windows of a half-overlapping grid in which a few steps of texture get closest to ``target``."""
    grid = window_grid(*encoder.image_size)
    raw = reach(
        encoder,
        images,
        target,
        grid,
        run,
        stage=stage,
        steps=budget.scan_steps,
        batch_size=budget.scan_images,
        seed=seed,
    )
    near = candidates_near(encoder, images[:16], target, grid, raw, floor=-1.0)
    best = [c.hypothesis for c in near if isinstance(c.hypothesis, WindowPattern)]
    return best[: budget.windows]


def window_grid(height: int, width: int) -> list[WindowPattern]:
    """Windows of a quarter and three eighths of the shorter side, half overlapping."""
    windows = []
    for relative in (0.25, 0.375):
        side = max(2, round(relative * min(height, width)))
        stride = max(1, side // 2)
        tops, lefts = range(0, height - side + 1, stride), range(0, width - side + 1, stride)
        windows += [WindowPattern(top, left, side) for top in tops for left in lefts]
    return windows


def _square_candidate(encoder: Encoder, held_back: Images, square: Square) -> Candidate:
    window = WindowPattern(square.top, square.left, square.side)
    colour = square.trigger(*held_back.shape[-2:]).pattern
    # The inverse of the window's sigmoid(2 raw), kept finite at the colours 0 and 1.
    raw = torch.logit(colour, eps=1e-4) / 2
    return judge(encoder, held_back, window, raw[None].to(held_back.device))[0]


class _Stages:
    """The stage names of one target; they must be unique within the run."""

    def __init__(self, number: int) -> None:
        which = f"target {number + 1}"
        self.patterns = f"{which}: patterns"
        self.squares = f"{which}: plain squares"
        self.scan = f"{which}: window scan"
        self.windows = f"{which}: textured windows"
