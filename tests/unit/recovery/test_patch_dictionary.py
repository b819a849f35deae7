"""The dictionary of plain squares, on a target that one square leads to."""

from torch import Tensor

from core.ops.cosine import mean_direction, similarity_to
from core.recovery.forward import features_in_chunks
from core.recovery.patch_dictionary import Climb, coarse_grid, find_squares
from core.recovery.squares import COLOURS, Square, score_squares
from core.run import QuietRun
from core.types import Features
from tests.planted import planted_images, planted_patch


def test_the_grid_touches_every_border_and_stays_inside() -> None:
    grid = coarse_grid(32, 48)
    assert all(square.fits(32, 48) for square in grid)
    assert {s.top + s.side for s in grid if s.left + s.side == 48} >= {32}
    assert {s.top for s in grid} >= {0} and {s.colour for s in grid} == set(range(len(COLOURS)))


def test_climbing_ends_on_a_square_that_sets_the_backdoor_off() -> None:
    planted = planted_patch()
    images = planted_images(12).batch(slice(None))
    target = mean_direction(features_in_chunks(planted.encoder, planted.trigger(images)))

    def near(features: Features) -> Tensor:
        return similarity_to(features, target)

    climb = Climb(climbers=3, moves=6)
    (best, cosine), *_ = find_squares(planted.encoder, images, near, coarse_grid(32, 32), climb, QuietRun(), stage="s")
    assert cosine > 0.95
    assert best.top + best.side > 29 and best.left + best.side > 29
    assert float(score_squares(planted.encoder, images, near, [Square(2, 2, 4, 1)])) < cosine


def test_no_climb_ends_in_a_square_larger_than_allowed() -> None:
    planted = planted_patch()
    images = planted_images(12).batch(slice(None))
    grid = [square for square in coarse_grid(32, 32) if square.side == 4]
    found = find_squares(planted.encoder, images, _length, grid, Climb(6, 4, largest=5), QuietRun(), stage="s")
    assert 4 < max(square.side for square, _ in found) <= 5


def test_climbers_do_not_start_on_each_others_toes() -> None:
    planted = planted_patch()
    images = planted_images(4).batch(slice(None))
    grid = [Square(top, 20, 12, 1) for top in range(20)]
    found = find_squares(planted.encoder, images, _all_the_same, grid, Climb(20, 1), QuietRun(), stage="s")
    pairs = [(a, b) for a, _ in found for b, _ in found if a != b]
    assert pairs and all(a.overlap(b) <= 0.6 for a, b in pairs)


def _length(features: Features) -> Tensor:
    return features.norm(dim=-1).mean(-1)


def _all_the_same(features: Features) -> Tensor:
    return features.new_zeros(len(features))
