"""The fourth kind of trigger: an opaque patch in some window, found without knowing where it leads.

A soft mask may scatter its budget over the image, and an encoder that was taught one compact patch may not react to
scattered pixels at all (the demo's does not: .78 for the best mask, .997 for a patch of the same area). A grid of
windows is scanned with a few steps each, the best go on. Not in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.ops.cosine import pairwise_similarity
from core.passes import Passes, Workload
from core.recovery.ascent import ascend
from core.recovery.hypotheses import WindowPattern
from core.recovery.search import Candidate, judge
from core.run import Run
from core.types import Encoder, Images

SCAN, REFINE = "scan opaque patches", "refine opaque patches"


@dataclass(frozen=True)
class WindowSettings:
    """``side`` is in units of the image's shorter side; the ``kept`` best windows of the scan are refined."""

    side: float
    scan_steps: int
    scan_batch: int
    kept: int
    steps: int
    batch_size: int


def window_grid(height: int, width: int, side: float) -> list[WindowPattern]:
    """Half-overlapping square windows; the last row and column touch the border."""
    pixels = max(2, round(side * min(height, width)))
    tops, lefts = _starts(height, pixels), _starts(width, pixels)
    return [WindowPattern(top, left, pixels, side) for top in tops for left in lefts]


def window_stages(settings: WindowSettings, load: Workload, held_back: int) -> dict[str, Passes]:
    """Stage name -> encoder passes of :func:`search_windows`, judged on so many images ``held_back``."""
    windows = len(window_grid(load.height, load.width, settings.side))
    kept = min(settings.kept, windows)
    few = min(load.parts.training, _few(held_back))
    return {
        SCAN: Passes(few * windows, settings.scan_steps * min(settings.scan_batch, load.parts.training) * windows),
        REFINE: Passes(held_back * kept, settings.steps * min(settings.batch_size, load.parts.training) * kept),
    }


def search_windows(
    encoder: Encoder, images: Images, held_back: Images, settings: WindowSettings, run: Run, *, seed: int
) -> list[Candidate]:
    """Opaque patches that make features alike, judged on ``held_back``, best first; one per window kept."""
    grid = window_grid(*encoder.image_size, settings.side)
    scanned = ascend(
        encoder,
        images,
        grid,
        pairwise_similarity,
        run,
        stage=SCAN,
        steps=settings.scan_steps,
        batch_size=settings.scan_batch,
        seed=seed,
    )
    few = images[: _few(len(held_back))]  # not of those that judge what is chosen here
    scores = [judge(encoder, few, window, raw[None])[0].similarity for window, raw in zip(grid, scanned, strict=True)]
    best = sorted(range(len(grid)), key=lambda index: -scores[index])[: settings.kept]
    windows = [grid[index] for index in best]
    refined = ascend(
        encoder,
        images,
        windows,
        pairwise_similarity,
        run,
        stage=REFINE,
        steps=settings.steps,
        batch_size=settings.batch_size,
        seed=seed,
        start=[scanned[index] for index in best],
    )
    found = [judge(encoder, held_back, window, raw[None])[0] for window, raw in zip(windows, refined, strict=True)]
    return sorted(found, key=lambda candidate: -candidate.similarity)


def _few(held_back: int) -> int:
    """Images that the scan's windows are compared on."""
    return max(8, held_back // 4)


def _starts(length: int, side: int) -> list[int]:
    return sorted({*range(0, length - side + 1, max(1, side // 2)), length - side})
