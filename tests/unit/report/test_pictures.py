"""The pictures are nearest-neighbour enlargements of exactly what was recovered."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from core.report.pictures import Picture, trigger_pictures
from core.triggers import AdditiveTrigger
from tests.unit import audited


def pixels(picture: Picture) -> np.ndarray:
    with Image.open(io.BytesIO(picture.png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_pattern_is_shown_where_the_mask_is_and_grey_elsewhere() -> None:
    trigger = audited.patch()
    shown = pixels(trigger_pictures(trigger, audited.images())[0])
    factor = shown.shape[0] // audited.SIZE
    small = shown[::factor, ::factor].astype(int)
    expected = (trigger.pattern * 255).round().permute(1, 2, 0).numpy().astype(int)
    assert factor * audited.SIZE == shown.shape[0] >= 256
    np.testing.assert_array_equal(small[-8:-2, -8:-2], expected[-8:-2, -8:-2])
    assert set(np.unique(small[:20, :20])) == {128}
    np.testing.assert_array_equal(shown, small.repeat(factor, 0).repeat(factor, 1))


def test_mask_is_white_on_the_triggers_area() -> None:
    trigger = audited.patch()
    shown = pixels(trigger_pictures(trigger, audited.images())[1])
    assert abs((shown == 255).mean() - trigger.area()) < 1e-9


def test_additive_pattern_is_stretched_around_grey() -> None:
    delta = torch.zeros(3, audited.SIZE, audited.SIZE)
    delta[0, 0, 0], delta[1, 0, 1] = 4 / 255, -4 / 255
    pattern, where, _ = map(pixels, trigger_pictures(AdditiveTrigger(delta), audited.images()))
    factor = pattern.shape[0] // audited.SIZE
    assert tuple(pattern[0, 0]) == (255, 128, 128)
    assert tuple(pattern[0, factor]) == (128, 0, 128)
    assert (where[:factor, : 2 * factor] == 255).all()
    assert where[factor:].max() == 0


def test_a_trigger_that_changes_nothing_is_grey_and_black() -> None:
    pictures = trigger_pictures(AdditiveTrigger(torch.zeros(3, audited.SIZE, audited.SIZE)), audited.images())
    pattern, where, _ = map(pixels, pictures)
    assert set(np.unique(pattern)) == {128}
    assert where.max() == 0


def test_samples_show_clean_triggered_and_difference() -> None:
    images = audited.images()
    shown = pixels(trigger_pictures(audited.patch(), images)[2])
    side = audited.SIZE * 3 + 4
    clean, triggered, difference = (shown[row * side : row * side + 96, :96] for row in range(3))
    first = images.pixels[0].permute(1, 2, 0).numpy().repeat(3, 0).repeat(3, 1)
    np.testing.assert_array_equal(clean, first)
    outside = np.ones((96, 96), bool)
    outside[72:90, 72:90] = False
    np.testing.assert_array_equal(clean[outside], triggered[outside])
    assert difference[outside].max() == 0
    assert difference[~outside].max() > 0
