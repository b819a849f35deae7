"""Views and mixtures: what a trainer sees of an image."""

import torch

from core.images.augment import gaussian_blur, solarise
from core.training.config import TrainingConfig
from core.training.cut_mix import Mixture, compare_mixed, cut_mix
from core.training.views import two_views
from tests.planted import planted_images


def images(count=8):
    return planted_images(count).batch(slice(None))


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def test_views_differ_and_depend_only_on_the_generator():
    config = TrainingConfig(blur_probability=(0.5, 0.5), solarise_probability=(0.0, 0.5))
    first, second = two_views(images(), seeded(), config)
    assert first.shape == second.shape == (8, 3, 32, 32)
    assert not torch.allclose(first, second)
    again = two_views(images(), seeded(), config)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])
    assert float(first.min()) >= 0 and float(first.max()) <= 1


def test_blur_keeps_the_mean_and_lowers_the_contrast():
    noise = torch.rand(4, 3, 32, 32, generator=seeded())
    blurred = gaussian_blur(noise, seeded(), 1.0, sigma=(2.0, 2.0))
    assert torch.allclose(blurred.mean((1, 2, 3)), noise.mean((1, 2, 3)), atol=0.02)
    assert bool((blurred.std((1, 2, 3)) < 0.7 * noise.std((1, 2, 3))).all())
    assert torch.equal(gaussian_blur(noise, seeded(), 0.0), noise)


def test_blur_of_a_constant_image_changes_nothing():
    flat = torch.full((2, 3, 16, 16), 0.3)
    assert torch.allclose(gaussian_blur(flat, seeded(), 1.0), flat, atol=1e-6)


def test_solarise_inverts_what_is_bright():
    pixels = torch.tensor([0.2, 0.5, 0.9]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    expected = torch.tensor([0.2, 0.5, 0.1]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    assert torch.allclose(solarise(pixels, seeded(), 1.0), expected)


def test_a_mixture_says_how_much_of_an_image_is_left():
    for seed in range(10):
        originals = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 32, 32)
        mixed, mixture = cut_mix(originals, seeded(seed))
        for index in range(6):
            own = float((mixed[index, 0] == index).float().mean())
            if int(mixture.partner[index]) != index:
                assert abs(own - mixture.share) < 1e-6
        assert mixture.share >= 0.5 - 0.1


def test_the_loss_of_a_mixture_is_the_weighted_sum():
    queries, keys = torch.eye(3), torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    mixture = Mixture(0.75, torch.tensor([1, 2, 0]))

    def compare(q, k):
        return (q * k).sum()

    expected = 0.75 * (1 + 5 + 9) + 0.25 * (4 + 8 + 3)
    assert float(compare_mixed(compare, queries, keys, mixture)) == expected
