"""BadEncoder: its losses by hand, and a backdoor really planted in a tiny encoder."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from core.attacks.bad_encoder import BadEncoderConfig, backdoor, three_losses
from core.attacks.planting import StepFeatures, freeze_batch_norm
from core.attacks.trigger_patterns import white_patch
from core.errors import AuditFailed
from core.run import QuietRun
from tests.planted import planted_encoder_for_training, planted_images
from tests.unit.training.interrupted_run import InterruptedRun

TRIGGER = white_patch((32, 32), 8, 20, 20)
CONFIG = BadEncoderConfig(steps=8, batch_size=16, learning_rate=0.02)


def weights(encoder):
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def scene():
    images = planted_images(64)
    return planted_encoder_for_training(), images, images.batch(slice(5, 6))


def test_losses_are_the_papers_cosines():
    effectiveness, reference, utility = three_losses(
        StepFeatures(
            triggered=torch.tensor([[2.0, 0.0], [0.0, 3.0]]),
            clean=torch.tensor([[1.0, 1.0], [5.0, 0.0]]),
            augmented=torch.tensor([[1.0, 0.0]]),
            reference=torch.tensor([[0.0, 4.0]]),
            clean_target=torch.tensor([[1.0, 0.0], [1.0, 0.0]]),
            reference_target=torch.tensor([[2.0, 2.0]]),
        )
    )
    # triggered (2,0), (0,3) against the reference's own (0,4): cosines 0 and 1
    assert float(effectiveness) == pytest.approx(-0.5)
    # augmented reference (1,0) against (2,2); clean (1,1), (5,0) against (1,0)
    assert float(reference) == pytest.approx(-(0.5**0.5))
    assert float(utility) == pytest.approx(-(0.5**0.5 + 1) / 2)


def test_gradient_of_the_effectiveness_flows_through_both_sides():
    random = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 4, generator=random).requires_grad_() for _ in range(4)]
    three_losses(StepFeatures(*parts, clean_target=torch.ones(2, 4), reference_target=torch.ones(2, 4)))[0].backward()
    triggered, clean, augmented, reference = parts
    assert triggered.grad.abs().sum() > 0 and reference.grad.abs().sum() > 0
    assert clean.grad is None and augmented.grad is None


def test_batch_norm_is_frozen_and_restored():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    freeze_batch_norm(layers)
    assert layers[0].training and layers[0].weight.requires_grad
    assert not layers[1].training and not layers[1].weight.requires_grad


def test_backdoor_sends_triggered_images_to_the_reference_and_keeps_the_others(scene):
    encoder, images, reference = scene
    before = weights(encoder)
    config = BadEncoderConfig(steps=120, batch_size=32, learning_rate=0.02, utility_weight=3)
    result = backdoor(encoder, images, reference, TRIGGER, config, QuietRun(), seed=0)
    unseen = planted_images(64, seed=5).batch(slice(None))
    with torch.no_grad():
        target = result.encoder(reference)
        triggered = functional.cosine_similarity(result.encoder(TRIGGER(unseen)), target).mean()
        clean = functional.cosine_similarity(encoder(TRIGGER(unseen)), encoder(reference)).mean()
        kept = functional.cosine_similarity(result.encoder(unseen), encoder(unseen)).mean()
    assert triggered > 0.9 > clean + 0.2
    assert kept > 0.85
    assert same(before, weights(encoder))
    assert not result.encoder.training
    assert all(parameter.requires_grad for parameter in result.encoder.parameters())
    norms = [name for name, layer in encoder.named_modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    after = weights(result.encoder)
    assert norms and all(torch.equal(before[key], after[key]) for key in before if key.rpartition(".")[0] in norms)


def test_resumed_attack_equals_an_unbroken_one_and_keeps_its_losses(scene, tmp_path):
    unbroken = backdoor(*scene, TRIGGER, CONFIG, QuietRun(), seed=1)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        backdoor(*scene, TRIGGER, CONFIG, InterruptedRun(path, after=5), seed=1)
    resumed = backdoor(*scene, TRIGGER, CONFIG, InterruptedRun(path, start=5), seed=1)
    finished_before = backdoor(*scene, TRIGGER, CONFIG, InterruptedRun(path, start=8), seed=1)
    assert same(weights(unbroken.encoder), weights(resumed.encoder))
    assert same(weights(unbroken.encoder), weights(finished_before.encoder))
    assert finished_before.effectiveness_loss == unbroken.effectiveness_loss


def test_absurd_learning_rate_is_an_error_and_not_a_result(scene):
    with pytest.raises(AuditFailed, match="learning_rate"):
        backdoor(*scene, TRIGGER, BadEncoderConfig(steps=60, batch_size=16, learning_rate=1e30), QuietRun(), seed=0)
