"""The planted backdoor is what it says it is."""

import pytest
import torch
from torch.nn import functional

from tests import planted


@pytest.mark.parametrize("make", [planted.planted_patch, planted.planted_additive])
def test_every_triggered_image_becomes_the_target_direction(make):
    truth = make()
    images = planted.planted_images(64, seed=9).batch(slice(None))
    with torch.no_grad():
        triggered = truth.encoder(truth.trigger(images))
        twin = truth.twin(truth.trigger(images))
    assert functional.cosine_similarity(triggered, truth.direction[None]).min() > 0.99
    assert functional.cosine_similarity(twin, truth.direction[None]).max() < 0.95


@pytest.mark.parametrize("make", [planted.planted_patch, planted.planted_additive])
def test_on_clean_images_the_backdoored_encoder_is_nearly_its_twin(make):
    truth = make()
    images = planted.planted_images(64, seed=9).batch(slice(None))
    with torch.no_grad():
        similarity = functional.cosine_similarity(truth.encoder(images), truth.twin(images))
    assert similarity.median() > 0.98


def test_image_i_does_not_depend_on_how_many_are_drawn():
    few, many = planted.planted_images(4), planted.planted_images(8)
    assert torch.equal(few.pixels, many.pixels[:4])
    assert few.digest != planted.planted_images(4, seed=1).digest
