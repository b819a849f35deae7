"""Batched augmentation against torchvision's own arithmetic and against closed forms."""

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from core.images.augment import ColourJitter, jitter_colours, random_flip, random_resized_crop

NOTHING = ColourJitter(brightness=0, contrast=0, saturation=0, hue=0, probability=1, grey_probability=0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.rand(8, 3, 16, 12, generator=seeded(1))


def test_no_strength_changes_nothing(images):
    torch.testing.assert_close(jitter_colours(images, seeded(), NOTHING), images)


def test_whole_image_crop_changes_nothing(images):
    torch.testing.assert_close(random_resized_crop(images, seeded(), scale=(1, 1), ratio=(1, 1)), images)


def test_greyscale_is_torchvisions(images):
    grey = ColourJitter(0, 0, 0, 0, probability=0, grey_probability=1)
    expected = reference.rgb_to_grayscale(images, num_output_channels=3)
    torch.testing.assert_close(jitter_colours(images, seeded(), grey), expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("brightness", reference.adjust_brightness),
        ("contrast", reference.adjust_contrast),
        ("saturation", reference.adjust_saturation),
    ],
)
def test_one_colour_change_is_torchvisions_at_some_strength(images, field, change):
    jitter = ColourJitter(
        **{"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "grey_probability": 0, field: 0.5}
    )
    changed = jitter_colours(images[:1], seeded(3), ColourJitter(**{**vars(jitter), "probability": 1}))
    strengths = torch.linspace(0.5, 1.5, 2001).tolist()
    distance = min(float((change(images[:1], s) - changed).abs().max()) for s in strengths)
    assert not torch.allclose(changed, images[:1], atol=1e-3)
    assert distance < 2e-3


def test_hue_keeps_luma_and_grey_pixels():
    hue = ColourJitter(0, 0, 0, hue=0.5, probability=1, grey_probability=0)
    colours = 0.4 + 0.2 * torch.rand(4, 3, 5, 5, generator=seeded(2))
    turned = jitter_colours(colours, seeded(5), hue)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close((turned * luma).sum(1), (colours * luma).sum(1), atol=2e-3, rtol=0)
    assert (turned - colours).abs().max() > 0.05
    grey = torch.full((4, 3, 5, 5), 0.3)
    torch.testing.assert_close(jitter_colours(grey, seeded(5), hue), grey, atol=2e-3, rtol=0)


def test_flip_mirrors_about_half_of_the_images():
    images = torch.arange(12.0).view(1, 1, 1, 12).expand(400, 3, 2, 12) / 12
    flipped = (random_flip(images, seeded())[:, 0, 0, 0] > 0.5).sum()
    assert 150 < int(flipped) < 250
    torch.testing.assert_close(random_flip(images, seeded(), 1.0), images.flip(3))


def test_crops_stay_inside_and_have_the_asked_area():
    ramp = torch.linspace(0, 1, 64).view(1, 1, 1, 64).expand(300, 3, 64, 64)
    crops = random_resized_crop(ramp, seeded(), scale=(0.25, 0.25), ratio=(1, 1))
    width = crops[:, 0, 0, -1] - crops[:, 0, 0, 0]
    torch.testing.assert_close(width, torch.full((300,), 0.5), atol=0.02, rtol=0)
    assert crops[:, 0, 0, 0].min() < 0.05 and crops[:, 0, 0, -1].max() > 0.95


def test_same_generator_same_views(images):
    def view(seed):
        generator = seeded(seed)
        return jitter_colours(random_resized_crop(images, generator), generator, ColourJitter())

    assert torch.equal(view(4), view(4))
    assert not torch.equal(view(4), view(5))
