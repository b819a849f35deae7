"""Plain squares: what they cover, what they overlap, and their scores."""

import torch
from torch import Tensor

from core.recovery.squares import COLOURS, Square, score_squares, squares_of
from core.types import Features
from tests.planted import planted_images, planted_patch


def test_a_square_changes_its_own_pixels_only() -> None:
    images = planted_images(2).batch(slice(None))
    stamped = images.clone()
    Square(3, 5, 4, 1).stamp_(stamped)
    changed = (stamped != images).any(1)
    assert bool(changed[:, 3:7, 5:9].all()) and int(changed.sum()) == 2 * 16
    assert bool((stamped[:, :, 3:7, 5:9] == 1).all())


def test_overlap_is_the_share_of_common_pixels() -> None:
    square = Square(4, 4, 8, 0)
    assert square.overlap(square) == 1
    assert square.overlap(Square(4, 8, 8, 3)) == 32 / 96
    assert square.overlap(Square(6, 6, 4, 0)) == 16 / 64
    assert square.overlap(Square(12, 4, 8, 0)) == 0 == square.overlap(Square(20, 20, 2, 0))


def test_squares_of_one_size_reach_every_border_in_every_colour() -> None:
    squares = squares_of(12, 8, 32, 30)
    assert {s.top for s in squares} == {0, 8, 16, 20} and {s.left for s in squares} == {0, 8, 16, 18}
    assert len(squares) == 16 * len(COLOURS) == len(set(squares))


def test_scores_do_not_depend_on_how_many_squares_share_a_pass() -> None:
    def brightness(features: Features) -> Tensor:
        return features.norm(dim=-1).mean(-1)

    encoder, images = planted_patch().encoder, planted_images(3).batch(slice(None))
    squares = squares_of(6, 6, 32, 32)
    together = score_squares(encoder, images, brightness, squares)
    alone = torch.cat([score_squares(encoder, images, brightness, [square]) for square in squares])
    assert together.shape == (len(squares),)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
