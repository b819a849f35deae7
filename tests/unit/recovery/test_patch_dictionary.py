"""The dictionary of plain squares, on a target that one square leads to."""

import torch

from core.ops.cosine import mean_direction
from core.recovery.forward import features_in_chunks
from core.recovery.patch_dictionary import COLOURS, Square, coarse_grid, find_squares, score_squares
from core.run import QuietRun
from tests.planted import planted_images, planted_patch


def test_the_grid_touches_every_border_and_stays_inside() -> None:
    grid = coarse_grid(32, 48)
    assert all(square.fits(32, 48) for square in grid)
    assert {s.top + s.side for s in grid if s.left + s.side == 48} >= {32}
    assert {s.top for s in grid} >= {0} and {s.colour for s in grid} == set(range(len(COLOURS)))


def test_a_square_changes_its_own_pixels_only() -> None:
    images = planted_images(2).batch(slice(None))
    square = Square(3, 5, 4, 1)
    stamped = images.clone()
    square.stamp_(stamped)
    changed = (stamped != images).any(1)
    assert bool(changed[:, 3:7, 5:9].all()) and int(changed.sum()) == 2 * 16
    trigger = square.trigger(32, 32)
    assert torch.equal(trigger(images), stamped)


def test_climbing_ends_on_a_square_that_sets_the_backdoor_off() -> None:
    planted = planted_patch()
    images = planted_images(12).batch(slice(None))
    target = mean_direction(features_in_chunks(planted.encoder, planted.trigger(images)))
    (best, cosine), *_ = find_squares(planted.encoder, images, target, QuietRun(), stage="s", climbers=3, moves=6)
    assert cosine > 0.95
    assert best.top + best.side > 29 and best.left + best.side > 29
    assert float(score_squares(planted.encoder, images, target, [Square(2, 2, 4, 1)])) < cosine
