"""What found patches are held against: the same patch at other places of the image, and plain colour anywhere.

A patch that an encoder was taught acts where it was taught. What drives a clean encoder to one of its corners, a stain
of a colour that it goes by, does so nearly anywhere: an encoder that was trained without changes of colour has such
colours, and then all that patches do to it says little.
"""

from __future__ import annotations

import torch

from core.decision.evidence import effect_of
from core.ops.cosine import pairwise_similarity
from core.recovery.forward import features_in_chunks
from core.recovery.squares import COLOURS, score_squares, squares_of
from core.triggers import MaskedTrigger
from core.types import Encoder, Images

_MOVES = ((1 / 8, 3 / 8), (1 / 2, 0.0), (3 / 8, 3 / 4), (3 / 4, 5 / 8), (5 / 8, 1 / 8))
"""How far a trigger is moved down and to the right, as shares of the image; it comes in again on the other side."""
FEW = 24
"""Images that tell what plain colour does."""
_OVERLAP = 0.25
"""Share of its pixels up to which a moved patch may cover the old place."""


def effect_elsewhere(encoder: Encoder, held_back: Images, trigger: MaskedTrigger, clean: float) -> float:
    """The largest effect on ``held_back`` ``[M, 3, H, W]`` of ``trigger`` at other places; ``clean`` is the similarity
    of clean features."""
    return max(
        effect_of(float(pairwise_similarity(features_in_chunks(encoder, moved(held_back)))), clean)
        for moved in at_other_places(trigger)
    )


def control_passes(held_back: int) -> int:
    """Forward passes of the controls of three patches and of :func:`colour_response`, judged on so many images."""
    return 3 * 8 * held_back + 9 * len(COLOURS) * min(FEW, held_back) + min(FEW, held_back)


def colour_response(encoder: Encoder, images: Images, side: int, clean: float) -> float:
    """How much a plain square of ``side`` pixels does wherever it lies: the median effect over nine places, of the
    colour that does most. One place that a trigger was taught at does not change a median.

    ``images`` ``[N, 3, H, W]`` are clean, ``clean`` their similarity.
    """
    height, width = images.shape[-2:]
    squares = squares_of(side, max(1, (min(height, width) - side) // 2), height, width)
    scores = score_squares(encoder, images, pairwise_similarity, squares)
    medians = [float(scores[colour :: len(COLOURS)].median()) for colour in range(len(COLOURS))]
    return effect_of(max(medians), clean)


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
