"""Candidates that the search did not meet: images that show the pixels of a trigger it found.

The search looks at a part of the set and keeps the best hundred images. Where few are poisoned, few of those carry
the trigger, and the rest of a ranked list would be natural windows. Once the trigger's pixels are known, other images
that show them are found by comparison alone (``matching``). The most suspicious of them are scored like any candidate,
until a trigger has as many as the papers look at. The verdict is given before: it rests on what the search found by
itself. Not in the papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from core.cleansing.candidates import ALIKE, Judged
from core.cleansing.config import CleansingConfig
from core.cleansing.examination import Examination, Place, ranked, window_on
from core.cleansing.matching import Matches

STAGE = "judge matches"
OF_A_TRIGGER = 50
"""Candidates that a trigger should have: the papers' accuracy is that of the best 20 and 50 windows."""


def join_matching(
    judged: Judged,
    triggers: Sequence[int],
    matches: Matches,
    suspicion: Tensor,
    clusters: Tensor,
    examine: Examination,
    config: CleansingConfig,
) -> Judged:
    """``judged`` with more candidates for those of its groups that are ``triggers``, which were looked for in this
    order by ``matches``. ``suspicion`` ``[N]`` says which images come first, ``clusters`` ``[N]`` where they lie.
    """
    height, width = examine.images.pixels.shape[2:]
    free = matches.score >= ALIKE
    free[[candidate.index for candidate in judged.candidates]] = False
    indices, places = [], []
    for position, number in enumerate(triggers):
        known = sum(candidate.group == number for candidate in judged.candidates)
        showing = (free & (matches.template == position)).nonzero().flatten()
        order = torch.argsort(suspicion[showing], descending=True, stable=True)
        chosen = showing[order][: max(0, OF_A_TRIGGER - known)]
        template = judged.templates[number]
        indices.append(chosen)
        places += [
            Place(window_on(at, template, config.window, height, width), number) for at in matches.corner[chosen]
        ]
    joined = torch.cat(indices)
    more = examine(STAGE, joined, places, clusters[joined], found_by="match")
    return replace(judged, candidates=ranked([*judged.candidates, *more], config))
