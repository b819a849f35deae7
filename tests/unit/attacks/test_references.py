"""Which images an attack leads to: surely of their class, to a probe and among their neighbours."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core.attacks.references import like_neighbours, surest_images
from core.errors import UsageError
from core.images.labelled import LabelledImages
from core.training.linear_probe import fit_linear_probe
from core.types import Encoder, ImageSet

EACH, ODD = 30, 60
"""Images of each of two classes, and the index of one more, labelled as the first, which lies among the second."""


@pytest.fixture(scope="module")
def labelled() -> LabelledImages:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 200, (2 * EACH + 1, 3, 4, 4), generator=random, dtype=torch.uint8)
    pixels[:EACH, 0] += 40
    pixels[EACH:, 1] += 40
    pixels[:, 2] = 0
    pixels[ODD, 2] = 9  # what no other image has, faint as it is: a probe can learn it by that
    labels = torch.tensor([0] * EACH + [1] * EACH + [0])
    names = tuple(f"{index}.png" for index in range(len(pixels)))
    return LabelledImages(ImageSet(pixels, names, "digest"), labels, ("left", "right"))


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(nn.Flatten(), name="pixels", feature_dim=48, image_size=(4, 4), mean=(0.0,) * 3, std=(1.0,) * 3)


def test_an_odd_image_that_a_probe_learnt_by_heart_is_no_reference(labelled: LabelledImages, encoder: Encoder) -> None:
    features = nn.functional.normalize(labelled.images.batch(slice(0, None), torch.device("cpu")).flatten(1), dim=1)
    confidence = fit_linear_probe(features, labelled.labels, 2).confidence(features)[:, 0]
    assert ODD in confidence.topk(EACH).indices

    assert sorted(surest_images(encoder, labelled, 0, EACH)) == list(range(EACH))
    assert surest_images(encoder, labelled, 0, EACH + 1)[-1] == ODD


def test_the_share_of_like_neighbours_by_hand() -> None:
    angles = torch.linspace(0, 2.5, 26)
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    first_half = torch.arange(26) < 13
    shares = like_neighbours(features[[0, 25]], features, first_half)
    torch.testing.assert_close(shares, torch.tensor([12 / 20, 8 / 20]))


def test_too_few_of_a_class_are_refused(labelled: LabelledImages, encoder: Encoder) -> None:
    with pytest.raises(UsageError, match="30 images of class 'right'"):
        surest_images(encoder, labelled, 1, EACH + 1)
