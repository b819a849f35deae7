"""From the search's best images to ranked candidates: groups of like windows, the trigger's size, exact scores."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from core.cleansing.agreement import alike_outside, compare_windows, group_alike
from core.cleansing.config import LARGEST_WINDOW, CleansingConfig
from core.cleansing.examination import Examination, Place, inside, ranked, window_on
from core.cleansing.extent import common_pixels, common_square
from core.cleansing.matching import best_match
from core.cleansing.result import Candidate, Window
from core.cleansing.search import SearchState
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


def judge_candidates(
    state: SearchState, images: ImageSet, examine: Examination, window: int, config: CleansingConfig
) -> Judged:
    """The search's best images as candidates, with windows fitted to what groups of them have in common."""
    best = state.best(JUDGED)
    places, templates = fit_windows(images.batch(best, examine.device), state.places[best], window, config)
    candidates = examine(STAGE, best, places, state.targets[best], found_by="search")
    return Judged(ranked(candidates, config), templates)


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
    places = [Place(at, None) for at in windows]
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
                at = inside(square[0] + down, square[1] + right, square[2], height, width)
            places[i] = Place(at, number)
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
                places[i] = Place(window_on(corners[i], template, fixed, height, width), number)
