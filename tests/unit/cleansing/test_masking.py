"""Masks: shapes, coverage and the three strategies of Fig. 3."""

import pytest
import torch

from core.cleansing.masking import draw_masks, filling
from tests.unit.cleansing.planted_set import encoder


def test_even_masks_cover_every_pixel_equally_often():
    masks = draw_masks(256, 9, (32, 32), strategy="full", positions="even", seed=0)
    assert masks.shape == (256, 32, 32)
    coverage = masks.sum(0)
    assert int(coverage.min()) >= 16 and int(coverage.max()) <= 25  # 4.5 +- .5 windows along each side
    assert float(coverage.float().mean()) == pytest.approx(256 * 81 / 1024)


def test_random_masks_on_the_torus_keep_their_area_at_the_border():
    masks = draw_masks(64, 60, (224, 224), strategy="full", positions="random", seed=0)
    assert (masks.sum((1, 2)) == 3600).all()
    # Field's oracle: a 60-pixel window covers a pixel 18.37 times in 256.
    assert float(masks.float().mean() * 256) == pytest.approx(18.37, abs=0.01)
    wraps = masks[:, 0].any(1) & masks[:, -1].any(1)
    assert wraps.any()


def test_interval_masks_change_from_block_to_block():
    masks = draw_masks(16, 8, (32, 32), strategy="interval", positions="even", seed=0)
    corner = masks[0, :8, :8]  # the first even mask begins at (0, 0)
    assert corner[:2, :2].all() and not corner[:2, 2:4].any() and not corner[2:4, :2].any() and corner[2:4, 2:4].all()
    assert (masks.sum((1, 2)) == 32).all()


def test_random_blocks_hide_half_of_a_window():
    masks = draw_masks(16, 8, (32, 32), strategy="random", positions="even", seed=0)
    full = draw_masks(16, 8, (32, 32), strategy="full", positions="even", seed=0)
    assert (masks.sum((1, 2)) == 32).all() and not (masks & ~full).any()
    assert len(torch.unique(masks[:, :].sum(1), dim=0)) > 1


def test_masks_are_a_function_of_the_seed():
    draw = lambda seed: draw_masks(9, 5, (20, 20), strategy="full", positions="random", seed=seed)  # noqa: E731
    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


def test_mean_filling_is_zero_after_the_encoders_normalisation():
    planted = encoder([])
    images = torch.rand(2, 3, 32, 32)
    assert float(((filling(planted, images, "mean", 5) - planted.mean) / planted.std).abs().max()) == 0
    assert float(filling(planted, images, "black", 5).max()) == 0
    blurred = filling(planted, images, "blur", 5)
    assert blurred.shape == images.shape and blurred.var() < images.var() / 5
