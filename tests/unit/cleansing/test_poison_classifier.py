"""The classifier's training images and its answers."""

import torch

from core.cleansing.classifier_training import train_classifier
from core.cleansing.config import CleansingConfig
from core.cleansing.poison_classifier import PoisonEnsemble, PoisonNet, probabilities
from core.cleansing.synthesis import box_patches, stamp_random, training_batch
from core.random import generator
from core.run import QuietRun
from tests.unit.cleansing.planted_set import patch, planted_set

CPU = torch.device("cpu")


def test_a_stamped_patch_keeps_its_pixels():
    images = torch.zeros(20, 3, 32, 32)
    square = torch.rand(3, 8, 8, generator=generator(0, "patch")) * 0.8 + 0.1
    stamped = stamp_random(images, box_patches([square], CPU), (1.0, 1.0), generator(0, "stamp"))
    for image in stamped:
        painted = image.amax(0) > 0
        rows, columns = painted.any(1).nonzero().flatten(), painted.any(0).nonzero().flatten()
        side = len(rows)
        assert 6 <= side <= 8 and len(columns) == side and int(painted.sum()) == side**2
        part = image[:, rows[0] : rows[0] + side, columns[0] : columns[0] + side]
        offsets = [(i, j) for i in range(9 - side) for j in range(9 - side)]
        assert any(torch.allclose(part, square[:, i : i + side, j : j + side], atol=1e-5) for i, j in offsets), (
            "a part of the patch, pixel for pixel"
        )


def test_patches_of_several_sizes_are_stamped_at_their_own_size():
    box = box_patches([torch.full((3, 4, 4), 0.25), torch.full((3, 12, 12), 0.75)], CPU)
    stamped = stamp_random(torch.zeros(60, 3, 32, 32), box, (1.0, 1.0), generator(1, "stamp"))
    areas = {0.25: set(), 0.75: set()}
    for image in stamped:
        areas[round(float(image.max()), 2)].add(int((image[0] > 0).sum()) ** 0.5)
    assert areas[0.25] and max(areas[0.25]) <= 4 and areas[0.75] and min(areas[0.75]) >= 9


def test_a_zoomed_patch_is_larger():
    box = box_patches([torch.ones(3, 8, 8)], CPU)
    sides = [
        float((image[0] > 0).sum()) ** 0.5
        for image in stamp_random(torch.zeros(30, 3, 32, 32), box, (2.0, 2.0), generator(2, "stamp"))
    ]
    assert min(sides) >= 12 and max(sides) == 16


def test_half_of_a_batch_is_stamped_and_it_follows_from_the_seed():
    images = planted_set(16, rate=0.0).images.batch(slice(None))
    box = box_patches([patch().float() / 255], CPU)
    first, labels = training_batch(images, box, (0.9, 1.1), 0.5, generator(0, "batch"))
    again, _ = training_batch(images, box, (0.9, 1.1), 0.5, generator(0, "batch"))
    assert first.shape == (32, 3, 32, 32) and labels.tolist() == [1.0] * 16 + [0.0] * 16
    assert torch.equal(first, again) and float(first.min()) >= 0 and float(first.max()) <= 1


def test_networks_take_small_and_large_images():
    for side in (32, 96, 224):
        assert PoisonNet(4, side).eval()(torch.rand(2, 3, side, side)).shape == (2,)


def test_members_begin_differently_and_are_averaged():
    ensemble = PoisonEnsemble(3, 4, 32, seed=0)
    images = planted_set(8).images
    logits = ensemble.eval()(images.batch(slice(None)))
    assert logits.shape == (3, 8) and float(logits.detach().std(0).min()) > 0
    answer = probabilities(ensemble, images, torch.arange(8), CPU)
    torch.testing.assert_close(answer, logits.mean(0).sigmoid().detach(), rtol=0.03, atol=0.03)  # bf16 where it is fast


def test_it_learns_to_see_the_patch():
    planted = planted_set(240)
    poisoned = torch.tensor(list(planted.poisoned))
    clean = torch.tensor([i for i in range(240) if i not in planted.poisoned])
    config = CleansingConfig(classifiers=2, classifier_width=8, classifier_steps=200, classifier_batch=64)
    ensemble = train_classifier(
        planted.images,
        [patch().float() / 255],
        clean[:100],
        (poisoned[:5], clean[:50]),
        config,
        QuietRun(),
        device=CPU,
        seed=0,
    )
    of_poisoned = probabilities(ensemble, planted.images, poisoned, CPU)
    of_clean = probabilities(ensemble, planted.images, clean[100:], CPU)
    assert float((of_poisoned > 0.5).float().mean()) > 0.9
    assert float((of_clean > 0.5).float().mean()) < 0.1
