"""What a found patch is held against: the same patch at other places of the image.

A patch that an encoder was taught acts where it was taught. What drives a clean encoder to one of its corners, a stain
of its favourite colour, does so nearly anywhere.
"""

from __future__ import annotations

import torch

from core.decision.evidence import effect_of
from core.ops.cosine import pairwise_similarity
from core.recovery.forward import features_in_chunks
from core.triggers import MaskedTrigger
from core.types import Encoder, Images

_MOVES = ((1 / 8, 3 / 8), (1 / 2, 0.0), (3 / 8, 3 / 4), (3 / 4, 5 / 8), (5 / 8, 1 / 8))
"""How far a trigger is moved down and to the right, as shares of the image; it comes in again on the other side."""
_OVERLAP = 0.25
"""Share of its pixels up to which a moved patch may cover the old place."""


def effect_elsewhere(encoder: Encoder, held_back: Images, trigger: MaskedTrigger, clean: float) -> float:
    """The largest effect on ``held_back`` ``[M, 3, H, W]`` of ``trigger`` at other places; ``clean`` is the similarity
    of clean features."""
    return max(
        effect_of(float(pairwise_similarity(features_in_chunks(encoder, moved(held_back)))), clean)
        for moved in at_other_places(trigger)
    )


def at_other_places(trigger: MaskedTrigger) -> list[MaskedTrigger]:
    """``trigger`` moved about the image. A compact one goes to the corners, the middles of the borders and the centre,
    as far as that is off its own place; one that is scattered over the image is moved in a circle."""
    height, width = trigger.mask.shape[-2:]
    rows, columns = _extent(trigger.mask)
    if len(rows) > height // 2 or len(columns) > width // 2:
        return [_moved(trigger, round(down * height), round(right * width)) for down, right in _MOVES]
    tops, lefts = ((0, free // 2, free) for free in (height - len(rows), width - len(columns)))
    moves = [(top - rows.start, left - columns.start) for top in tops for left in lefts]
    return [
        _moved(trigger, *move)
        for move in moves
        if _shared(len(rows), move[0]) * _shared(len(columns), move[1]) <= _OVERLAP
    ]


def _shared(extent: int, move: int) -> float:
    """The share of ``extent`` that still lies where it did after a ``move``."""
    return max(0, extent - abs(move)) / extent


def _moved(trigger: MaskedTrigger, down: int, right: int) -> MaskedTrigger:
    mask, pattern = (torch.roll(one, (down, right), dims=(-2, -1)) for one in (trigger.mask, trigger.pattern))
    return MaskedTrigger(mask, pattern)


def _extent(mask: torch.Tensor) -> tuple[range, range]:
    """The rows and columns between which ``mask`` ``[1, H, W]`` has more than half of its largest value."""
    inside = mask[0] > 0.5 * mask.max()
    rows, columns = inside.any(1).nonzero()[:, 0].tolist(), inside.any(0).nonzero()[:, 0].tolist()
    return range(rows[0], rows[-1] + 1), range(columns[0], columns[-1] + 1)
