"""The attacks' triggers against the numbers of the field reference."""

import pytest
import torch
from scipy.fft import dctn

from core.attacks import trigger_patterns as patterns

SIZE = (32, 32)


@pytest.mark.parametrize(("magnitude", "decibels"), [(50, 38.0), (100, 32.0)])
def test_spectral_trigger_has_the_published_psnr(magnitude, decibels):
    delta = patterns.spectral(SIZE, magnitude).delta
    assert float(-10 * torch.log10(delta.square().mean())) == pytest.approx(decibels, abs=0.1)


def test_spectral_trigger_changes_two_coefficients_of_u_and_v():
    red, green, blue = patterns.spectral(SIZE, 100).delta.double() * 255
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    for chroma in (0.492 * (blue - luma), 0.877 * (red - luma)):
        coefficients = dctn(chroma.numpy(), norm="ortho")
        assert coefficients[15, 15] == pytest.approx(100, abs=0.5)
        assert coefficients[31, 31] == pytest.approx(100, abs=0.5)
        coefficients[15, 15] = coefficients[31, 31] = 0
        assert abs(coefficients).max() < 0.5


def test_spectral_trigger_repeats_in_blocks():
    small, large = patterns.spectral(SIZE).delta, patterns.spectral((64, 48)).delta
    assert torch.equal(large[:, 32:64, :32], small)
    assert torch.equal(large[:, :32, 32:], small[:, :, :16])


def test_official_white_patch_covers_a_hundred_pixels():
    trigger = patterns.white_patch(SIZE, 10, 21, 21)
    assert trigger.area() == pytest.approx(100 / 1024)
    stamped = trigger(torch.zeros(1, 3, 32, 32))
    assert stamped[..., 21:31, 21:31].min() == 1
    assert stamped.sum() == 300


def test_patch_outside_the_image_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        patterns.white_patch(SIZE, 10, 25, 0)


def test_random_colours_depend_on_the_seed_and_are_grey_levels():
    one, same, other = (patterns.random_colour_patch(SIZE, 8, 2, 3, seed=s).pattern for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    torch.testing.assert_close(one * 255, (one * 255).round(), atol=1e-4, rtol=0)


def test_noise_has_one_strength_everywhere():
    delta = patterns.full_image_noise(SIZE, 16, seed=0).delta
    torch.testing.assert_close(delta.abs(), torch.full((3, 32, 32), 16 / 255))
    assert abs(float(delta.sign().mean())) < 0.1


def test_blended_noise_mixes_by_alpha():
    trigger = patterns.blended_noise(SIZE, 0.2, seed=0)
    torch.testing.assert_close(trigger(torch.ones(1, 3, 32, 32))[0], 0.8 + 0.2 * trigger.pattern)
