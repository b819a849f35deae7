"""Which windows show the same pixels, and how large the common patch is."""

import torch

from core.cleansing.agreement import alike_outside, compare_windows, group_alike
from core.cleansing.candidates import ALIKE, DUPLICATE, fit_windows
from core.cleansing.config import CleansingConfig
from core.cleansing.extent import common_square
from core.cleansing.poison_cam import PoisonCamConfig
from core.cleansing.result import Window
from core.ops.windows import paste
from tests.unit.cleansing.planted_set import patch, planted_set

TOPS = torch.tensor([3, 10, 17, 8, 20])
LEFTS = torch.tensor([12, 5, 9, 20, 2])


def patched(side=6, size=32, count=5):
    """Unlike images with one patch at different places."""
    clean = planted_set(count).images.batch(slice(None))
    if size != 32:
        clean = torch.nn.functional.interpolate(clean, size=(size, size), mode="nearest")
    square = patch(0, side).float() / 255
    return paste(clean, square.expand(count, -1, -1, -1), TOPS[:count], LEFTS[:count])


def test_windows_on_the_same_patch_agree_and_say_by_how_much_they_are_shifted():
    images = patched()
    top, left = TOPS - torch.tensor([1, 0, 2, 1, 2]), LEFTS - torch.tensor([2, 1, 0, 1, 1])
    agreement = compare_windows(images, top, left, 9)
    off = ~torch.eye(5, dtype=torch.bool)
    assert float(agreement.concordance[off].min()) > 0.99
    # The patch stands at (1, 2) in window 0 and at (2, 0) in window 2.
    assert agreement.shift[0, 2].tolist() == [1, -2]
    assert agreement.concordance.diagonal().abs().max() == 0


def test_windows_of_clean_images_do_not_agree():
    images = planted_set(30, rate=0.0).images.batch(slice(None))
    agreement = compare_windows(images, torch.full((30,), 10), torch.full((30,), 12), 9)
    assert float(agreement.concordance.max()) < ALIKE


def test_two_flat_windows_agree_with_nothing():
    images = torch.cat([torch.full((2, 3, 32, 32), 0.5), torch.full((1, 3, 32, 32), 0.1)])
    agreement = compare_windows(images, torch.zeros(3).long(), torch.zeros(3).long(), 9)
    assert float(agreement.concordance.abs().max()) < 1e-6


def test_brightness_counts_against_agreement():
    images = patched(count=2) / 2
    same = compare_windows(images, TOPS[:2], LEFTS[:2], 6)
    brighter = compare_windows(images + torch.tensor([0.0, 0.4]).view(2, 1, 1, 1), TOPS[:2], LEFTS[:2], 6)
    assert float(same.concordance[0, 1]) > ALIKE and float(brighter.concordance[0, 1]) < 0.6


def test_a_large_window_is_compared_at_a_coarser_scale():
    images = patched(side=24, size=96)
    # Odd and even shifts: averaging must not depend on where a window begins.
    agreement = compare_windows(images, TOPS - torch.tensor([0, 1, 2, 1, 0]), LEFTS - torch.tensor([1, 0, 0, 1, 2]), 26)
    off = ~torch.eye(5, dtype=torch.bool)
    assert float(agreement.concordance[off].min()) > 0.95
    assert agreement.shift[0, 1].tolist() == [1, -1]


def test_near_duplicates_are_known_as_such():
    images = planted_set(6, rate=0.0).images.batch(slice(None))
    twice = torch.cat([images, (images[:1] * 0.97)])
    alike = alike_outside(twice)
    assert float(alike[0, 6]) > DUPLICATE
    assert float(alike[0, 1:6].max()) < DUPLICATE


def test_groups_are_taken_largest_first_and_small_ones_not_at_all():
    alike = torch.zeros(9, 9, dtype=torch.bool)
    for members in ([0, 3, 5, 6], [1, 2, 4], [7, 8]):
        for i in members:
            for j in members:
                alike[i, j] = i != j
    groups = group_alike(alike, least=3)
    assert [sorted(group) for group in groups] == [[0, 3, 5, 6], [1, 2, 4]]
    assert group_alike(torch.zeros(4, 4, dtype=torch.bool), least=2) == []


def test_the_common_square_is_the_patch():
    images = patched()
    offsets = torch.stack([TOPS - TOPS[0], LEFTS - LEFTS[0]], 1)
    for around in ((1, 10, 9), (3, 12, 4)):  # a window that is too large, and one that is too small
        assert common_square(images, offsets, around=around, largest=19) == (3, 12, 6)


def test_windows_are_fitted_to_the_patch_unless_the_user_has_set_their_size():
    images = patched()
    corners = torch.stack([TOPS - 1, LEFTS - 2], 1)
    places, (template,) = fit_windows(images, corners, 9, PoisonCamConfig())
    assert torch.allclose(template, patch().float() / 255, atol=1e-6)
    for place, top, left in zip(places, TOPS.tolist(), LEFTS.tolist(), strict=True):
        assert (place.window.top, place.window.left, place.window.side, place.group) == (top, left, 6, 0)
    fixed, (template,) = fit_windows(images, corners, 9, CleansingConfig(window=9))
    assert torch.allclose(template, patch().float() / 255, atol=1e-6)
    assert [(p.window.top, p.window.left, p.window.side) for p in fixed] == [(*c, 9) for c in corners.tolist()]
    assert all(place.group == 0 for place in fixed)


def test_an_image_that_shows_the_pixels_elsewhere_joins_the_group():
    """Its window missed the patch: localisation is never perfect, and what it missed is known from the others."""
    images = torch.cat([patched(count=5), planted_set(8, rate=0.0).images.batch(slice(5, 7))])
    images[5] = paste(images[5:6], patch().float()[None] / 255, torch.tensor([24]), torch.tensor([3]))[0]
    corners = torch.tensor([*zip((TOPS - 1).tolist(), (LEFTS - 2).tolist(), strict=True), (2, 20), (2, 20)])
    places, _ = fit_windows(images, corners, 9, PoisonCamConfig())
    assert [place.group for place in places] == [0, 0, 0, 0, 0, 0, None]
    assert places[5].window == Window(24, 3, 6) and places[6].window == Window(2, 20, 9)
    fixed, _ = fit_windows(images, corners, 9, CleansingConfig(window=9))
    assert fixed[5].window == Window(23, 2, 9)


def test_a_copy_of_an_image_of_the_group_does_not_join_it():
    images = patched(count=5)
    twice = torch.cat([images, images[:1] * 0.99])
    corners = torch.cat([torch.stack([TOPS - 1, LEFTS - 2], 1), torch.tensor([[22, 0]])])
    places, _ = fit_windows(twice, corners, 9, PoisonCamConfig())
    assert alike_outside(twice)[0, 5] > DUPLICATE and places[0].group == 0
    assert places[5].group is None
