"""From the search's best images to ranked candidates: groups of like windows, the trigger's size, exact scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.cleansing.activation_masking import Attention
from core.cleansing.agreement import alike_outside, compare_windows, group_alike
from core.cleansing.config import LARGEST_WINDOW, CleansingConfig
from core.cleansing.extent import common_square
from core.cleansing.flip_test import FlipTest
from core.cleansing.result import Candidate, Window
from core.cleansing.search import Localiser, SearchState
from core.ops.windows import cut
from core.run import Run
from core.types import Images, ImageSet

STAGE = "judge candidates"
JUDGED = 100
"""Candidates that are compared with one another and scored on the whole flip set; the paper looks at the first 100."""

ALIKE = 0.9
"""Concordance of two windows' best blocks from which on they show the same thing."""

DUPLICATE = 0.9
"""Concordance of two whole images from which on they are near-duplicates, and their windows say nothing."""

LEAST_GROUP = 5
"""Fewest like windows that count: two or three images can share a texture."""


@dataclass(frozen=True)
class Place:
    """A candidate's window, and the number of its group (None: alone)."""

    index: int
    window: Window
    group: int | None


def judge_candidates(
    state: SearchState,
    images: ImageSet,
    localise: Localiser,
    flip_test: FlipTest,
    window: int,
    config: CleansingConfig,
    run: Run,
) -> tuple[Candidate, ...]:
    """The search's best images as candidates, best first, with windows fitted to what groups of them have in common."""
    best = state.best(JUDGED)
    places = fit_windows(images.batch(best, flip_test.device), state.places[best], window, config)
    into, changed = torch.zeros(len(best)), torch.zeros(len(best))
    maps: list[Tensor] = [torch.empty(0)] * len(best)
    sides = sorted({place.window.side for place in places})
    for step in run.steps(STAGE, len(sides)):
        chosen = torch.tensor([i for i, place in enumerate(places) if place.window.side == sides[step]])
        batch = images.batch(best[chosen], flip_test.device)
        attention: Attention = localise(batch)
        scores = flip_test.scores(
            cut(batch, *_corners(places, chosen), sides[step]), state.targets[best[chosen]].to(flip_test.device)
        )
        into[chosen], changed[chosen] = scores.into, scores.changed
        for i, attended in zip(chosen.tolist(), attention.maps.cpu(), strict=True):
            maps[i] = attended
    score = into if config.flip_score == "into_cluster" else changed
    order = torch.argsort(score, descending=True, stable=True).tolist()
    if config.groups_first:
        order.sort(key=lambda i: places[i].group is None)
    ranked = []
    for rank, i in enumerate(order, start=1):
        index, at = int(best[i]), places[i].window
        patch = images.pixels[index, :, at.top : at.top + at.side, at.left : at.left + at.side].clone()
        ranked.append(
            Candidate(
                rank,
                index,
                images.names[index],
                at,
                int(state.targets[index]),
                float(score[i]),
                float(into[i]),
                float(changed[i]),
                places[i].group,
                patch,
                maps[i],
            )
        )
    return tuple(ranked)


def fit_windows(images: Images, corners: Tensor, window: int, config: CleansingConfig) -> list[Place]:
    """A place for each image ``[M, 3, H, W]`` with its search window at ``corners`` ``[M, 2]`` (top, left).

    Candidates alone keep the search's window, and so do all where the user has set its size.
    """
    top, left = corners.unbind(1)
    agreement = compare_windows(images, top, left, window)
    alike = (agreement.concordance >= ALIKE) & (alike_outside(images) < DUPLICATE)
    windows = [Window(int(t), int(c), window) for t, c in corners.tolist()]
    places = [Place(i, at, None) for i, at in enumerate(windows)]
    height, width = images.shape[2:]
    largest = int(LARGEST_WINDOW * min(height, width))
    for number, members in enumerate(group_alike(alike, least=LEAST_GROUP)):
        hub = members[0]
        # From the hub's pixels to a member's: by the windows' corners and then by the blocks inside them.
        offsets = corners[members] - corners[hub] + agreement.shift[hub, members]
        offsets[0] = 0
        square = (windows[hub].top, windows[hub].left, window)
        if config.window is None:
            square = common_square(images[members].cpu(), offsets, around=square, largest=largest)
        for i, (down, right) in zip(members, offsets.tolist(), strict=True):
            at = windows[i]
            if config.window is None:
                at = Window(
                    min(max(square[0] + down, 0), height - square[2]),
                    min(max(square[1] + right, 0), width - square[2]),
                    square[2],
                )
            places[i] = Place(i, at, number)
    return places


def _corners(places: list[Place], chosen: Tensor) -> tuple[Tensor, Tensor]:
    at = [places[i].window for i in chosen.tolist()]
    return torch.tensor([w.top for w in at]), torch.tensor([w.left for w in at])
