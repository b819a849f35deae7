"""From the search's best images to ranked candidates: groups of like windows, the trigger's size, exact scores."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.cleansing.activation_masking import Attention
from core.cleansing.agreement import alike_outside, compare_windows, group_alike
from core.cleansing.config import LARGEST_WINDOW, CleansingConfig
from core.cleansing.extent import common_pixels, common_square
from core.cleansing.flip_test import FlipTest
from core.cleansing.matching import best_match
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
class Judged:
    """Candidates, best first, and what each group of them has in common: ``templates[i]`` ``[3, s, s]`` fp32 in [0, 1]
    belongs to group i; the sizes are their own."""

    candidates: tuple[Candidate, ...]
    templates: tuple[Tensor, ...]


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
) -> Judged:
    """The search's best images as candidates, with windows fitted to what groups of them have in common."""
    best = state.best(JUDGED)
    places, templates = fit_windows(images.batch(best, flip_test.device), state.places[best], window, config)
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
    return Judged(tuple(ranked), templates)


def fit_windows(
    images: Images, corners: Tensor, window: int, config: CleansingConfig
) -> tuple[list[Place], tuple[Tensor, ...]]:
    """A place for each image ``[M, 3, H, W]`` with its search window at ``corners`` ``[M, 2]`` (top, left), and the
    groups' templates.

    Candidates alone keep the search's window, and the like ones of a group where the user has set its size. An image
    that shows a group's pixels elsewhere than in its window joins the group, with a window on them.
    """
    top, left = corners.unbind(1)
    agreement = compare_windows(images, top, left, window)
    unlike = alike_outside(images) < DUPLICATE
    alike = (agreement.concordance >= ALIKE) & unlike
    windows = [Window(int(t), int(c), window) for t, c in corners.tolist()]
    places = [Place(i, at, None) for i, at in enumerate(windows)]
    height, width = images.shape[2:]
    largest = int(LARGEST_WINDOW * min(height, width))
    hubs, templates = [], []
    for number, members in enumerate(group_alike(alike, least=LEAST_GROUP)):
        hub = members[0]
        # From the hub's pixels to a member's: by the windows' corners and then by the blocks inside them.
        offsets = corners[members] - corners[hub] + agreement.shift[hub, members]
        offsets[0] = 0
        own = (windows[hub].top, windows[hub].left, window)
        of_group = images[members].cpu()
        square = common_square(of_group, offsets, around=own, largest=largest)
        hubs.append(hub)
        templates.append(common_pixels(of_group, offsets, square))
        for i, (down, right) in zip(members, offsets.tolist(), strict=True):
            at = windows[i]
            if config.window is None:
                at = _inside(square[0] + down, square[1] + right, square[2], height, width)
            places[i] = Place(i, at, number)
    _join(places, images, hubs, templates, unlike, config.window)
    return places, tuple(templates)


def _join(
    places: list[Place], images: Images, hubs: list[int], templates: list[Tensor], unlike: Tensor, fixed: int | None
) -> None:
    """Give candidates alone that show a group's template, in an image unlike its hub's, a place in that group."""
    height, width = images.shape[2:]
    for number, (hub, template) in enumerate(zip(hubs, templates, strict=True)):
        concordance, corners = (part.cpu() for part in best_match(images, template.to(images.device)))
        for i in ((concordance >= ALIKE) & unlike[hub]).nonzero().flatten().tolist():
            if places[i].group is None:
                top, left = corners[i].tolist()
                side = fixed or template.shape[-1]
                spare = (side - template.shape[-1]) // 2
                places[i] = Place(i, _inside(top - spare, left - spare, side, height, width), number)


def _inside(top: int, left: int, side: int, height: int, width: int) -> Window:
    """The window, moved so far that it lies in the image."""
    return Window(min(max(top, 0), height - side), min(max(left, 0), width - side), side)


def _corners(places: list[Place], chosen: Tensor) -> tuple[Tensor, Tensor]:
    at = [places[i].window for i in chosen.tolist()]
    return torch.tensor([w.top for w in at]), torch.tensor([w.left for w in at])
