"""All kinds of triggers that lead to one target embedding, for unlearning to work against.

Once a search has entered the backdoor's basin, the mean direction v of its triggered features is the *target
embedding*. Recovery towards v is well-posed: "reach this point" has no generic basin, unlike "make everything alike",
so each further search lands in the backdoor or visibly fails to. Not in the paper; see docs/methods/ssldefender.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from core.ops.cosine import mean_direction, similarity_to
from core.passes import Passes, Workload
from core.recovery.ascent import ascend
from core.recovery.hypotheses import AdditivePattern, Hypothesis, MaskedPattern, SpectralPattern, WindowPattern
from core.recovery.opaque_windows import window_grid
from core.recovery.patch_dictionary import Climb, coarse_grid, find_squares, square_passes
from core.recovery.plain_squares import square_candidate
from core.recovery.search import Candidate, judge
from core.run import Run
from core.types import Encoder, Features, Images

PATTERNS: tuple[Hypothesis, ...] = (
    MaskedPattern(0.01),
    MaskedPattern(0.03),
    MaskedPattern(0.10),
    AdditivePattern(8 / 255),
    AdditivePattern(16 / 255),
    SpectralPattern(1.6),
)
WINDOW_SIDES = (0.25, 0.375)
"""Sides of textured windows, in units of the image's shorter side."""

NEAR = 0.9
"""Mean cosine to the target from which on a trigger is worth unlearning."""


NEAR_SQUARE, ALIKE = 0.8, 0.95
"""For plain squares: mean cosine to the target, and mean pairwise cosine of what they make of all images."""


@dataclass(frozen=True)
class TargetBudget:
    """``steps`` of gradient recovery for patterns and for the best windows; the window scan takes a third of that."""

    steps: int
    batch_size: int = 24
    climbers: int = 6
    moves: int = 8
    windows: int = 6

    @property
    def scan_images(self) -> int:
        """Images that a place is judged on while scanning; twice as many while climbing."""
        return min(6, max(2, self.steps // 6))

    @property
    def scan_steps(self) -> int:
        return max(4, self.steps // 3)


def target_stages(budget: TargetBudget, number: int, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes of :func:`recover_towards` for target ``number`` (0-based)."""
    names = _Stages(number)
    held, images = load.parts.judging, load.parts.training
    grid = len(coarse_grid(load.height, load.width))
    squares = square_passes(grid, 2 * budget.scan_images, Climb(budget.climbers, budget.moves), load)
    windows = sum(len(window_grid(load.height, load.width, side)) for side in WINDOW_SIDES)
    each = budget.steps * min(budget.batch_size, images)
    return {
        names.squares: squares + Passes(forward=held * (1 + budget.climbers)),
        names.patterns: Passes(held * len(PATTERNS), each * len(PATTERNS)),
        names.scan: Passes(min(16, images) * windows, budget.scan_steps * min(budget.scan_images, images) * windows),
        names.windows: Passes(held * budget.windows, each * budget.windows),
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

    def near_target(features: Features) -> Tensor:
        return similarity_to(features, target)

    def recover(hypotheses: Sequence[Hypothesis], stage: str, steps: int, batch_size: int) -> list[Tensor]:
        return ascend(
            encoder, images, hypotheses, near_target, run, stage=stage, steps=steps, batch_size=batch_size, seed=seed
        )

    patterns = recover(PATTERNS, names.patterns, budget.steps, budget.batch_size)
    grid = [window for side in WINDOW_SIDES for window in window_grid(*encoder.image_size, side)]
    scanned = recover(grid, names.scan, budget.scan_steps, budget.scan_images)
    windows = _nearest(encoder, images[:16], target, grid, scanned)[: budget.windows]
    textures = recover(windows, names.windows, budget.steps, budget.batch_size)
    near_patterns = _near(encoder, held_back, target, PATTERNS, patterns)
    return squares + near_patterns + _near(encoder, held_back, target, windows, textures)


def _squares(
    encoder: Encoder, images: Images, held_back: Images, target: Tensor, budget: TargetBudget, run: Run, stage: str
) -> list[Candidate]:
    """Plain squares that lead towards ``target`` *and* make all features alike, most alike first.

    The estimate of the target may be some way off (.94 from the true one for a large opaque patch), so closeness alone
    cannot tell the trigger from a large stain; being alike does.
    """
    height, width = images.shape[-2:]
    found = find_squares(
        encoder,
        images[: 2 * budget.scan_images],
        lambda features: similarity_to(features, target),
        coarse_grid(height, width),
        Climb(budget.climbers, budget.moves),
        run,
        stage=stage,
    )
    candidates = [
        square_candidate(
            encoder,
            held_back,
            square,
            WindowPattern(square.top, square.left, square.side, square.side / min(height, width)),
        )
        for square, cosine in found
        if cosine >= NEAR_SQUARE
    ]
    alike = [candidate for candidate in candidates if candidate.similarity >= ALIKE]
    return sorted(alike, key=lambda candidate: -candidate.similarity)


def _nearest(
    encoder: Encoder, images: Images, target: Tensor, windows: Sequence[WindowPattern], raw: Sequence[Tensor]
) -> list[WindowPattern]:
    """``windows`` by how near their raw triggers lead to ``target``, nearest first."""
    judged = [judge(encoder, images, window, one[None])[0] for window, one in zip(windows, raw, strict=True)]
    cosines = [float(similarity_to(candidate.features, target)) for candidate in judged]
    return [windows[index] for index in sorted(range(len(windows)), key=lambda index: -cosines[index])]


def _near(
    encoder: Encoder, held_back: Images, target: Tensor, hypotheses: Sequence[Hypothesis], raw: Sequence[Tensor]
) -> list[Candidate]:
    """The triggers whose held-back features lie within cosine ``NEAR`` of ``target``, nearest first."""
    judged = [judge(encoder, held_back, h, one[None])[0] for h, one in zip(hypotheses, raw, strict=True)]
    near = [(float(similarity_to(candidate.features, target)), candidate) for candidate in judged]
    return [candidate for cosine, candidate in sorted(near, key=lambda pair: -pair[0]) if cosine >= NEAR]


class _Stages:
    """The stage names of one target; they must be unique within the run."""

    def __init__(self, number: int) -> None:
        which = f"target {number + 1}"
        self.patterns = f"{which}: patterns"
        self.squares = f"{which}: plain squares"
        self.scan = f"{which}: window scan"
        self.windows = f"{which}: textured windows"
