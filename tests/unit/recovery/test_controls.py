"""A patch at other places: whole, and off its own place."""

import pytest
import torch

from core.ops.cosine import pairwise_similarity
from core.recovery.controls import at_other_places, effect_elsewhere
from core.recovery.forward import features_in_chunks
from core.triggers import MaskedTrigger
from tests.planted import planted_images, planted_patch


def patch(top: int, left: int, side: int, size: int = 32) -> MaskedTrigger:
    mask = torch.zeros(1, size, size)
    mask[:, top : top + side, left : left + side] = 1
    return MaskedTrigger(mask, torch.rand(3, size, size, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize(("top", "left", "side"), [(21, 21, 10), (0, 0, 6), (10, 3, 14)])
def test_a_compact_patch_stays_whole_and_leaves_its_place(top: int, left: int, side: int) -> None:
    trigger = patch(top, left, side)
    moved = at_other_places(trigger)
    assert len(moved) >= 2
    for one in moved:
        inside = one.mask[0].nonzero()
        first, last = inside.amin(0), inside.amax(0)
        assert one.mask.sum() == side * side
        assert (last - first + 1).tolist() == [side, side]
        assert float((one.mask * trigger.mask).sum()) <= 0.25 * side * side
        box = one.pattern[:, first[0] : last[0] + 1, first[1] : last[1] + 1]
        assert torch.equal(box, trigger.pattern[:, top : top + side, left : left + side])


def test_a_scattered_mask_is_moved_in_a_circle() -> None:
    mask = (torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(1)) > 0.97).float()
    moved = at_other_places(MaskedTrigger(mask, torch.zeros(3, 32, 32)))
    assert len(moved) == 5
    assert all(one.mask.sum() == mask.sum() and not torch.equal(one.mask, mask) for one in moved)


def test_a_patch_that_was_taught_one_place_does_little_at_others() -> None:
    planted = planted_patch()
    images = planted_images(64).batch(slice(0, 64))
    clean = float(pairwise_similarity(features_in_chunks(planted.encoder, images)))
    trigger = planted.trigger
    assert isinstance(trigger, MaskedTrigger)
    here = float(pairwise_similarity(features_in_chunks(planted.encoder, trigger(images))))
    assert here > 0.95
    assert effect_elsewhere(planted.encoder, images, trigger, clean) < 0.5
