"""SimCLR: the loss against a direct reading of the paper, training against its promises."""

import math

import pytest
import torch

from core.checkpoint import load_checkpoint, save_checkpoint
from core.run import QuietRun
from core.training.simclr import SimclrConfig, nt_xent, pretrain, schedule, two_views
from tests.planted import planted_encoder_for_training, planted_images

CONFIG = SimclrConfig(steps=6, batch_size=16)


class InterruptedRun(QuietRun):
    """Stops after ``after`` steps and writes the checkpoint; a second run starts there."""

    def __init__(self, path, after=None, start=0):
        self.path, self.after, self.start = path, after, start

    def steps(self, name, total, *, state=None):
        if self.start:
            state.load_state_dict(load_checkpoint(self.path))
        for step in range(self.start, total):
            if step == self.after:
                save_checkpoint(self.path, state.state_dict())
                raise KeyboardInterrupt
            yield step


def weights(encoder):
    return torch.cat([tensor.flatten().float() for tensor in encoder.state_dict().values()])


def test_nt_xent_is_the_papers_sum():
    z = torch.nn.functional.normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    total = 0.0
    for i in range(8):
        j = (i + 4) % 8
        denominator = sum(math.exp(float(z[i] @ z[k]) / 0.5) for k in range(8) if k != i)
        total -= math.log(math.exp(float(z[i] @ z[j]) / 0.5) / denominator)
    assert float(nt_xent(3 * z, 0.5)) == pytest.approx(total / 8, rel=1e-5)


def test_nt_xent_of_orthogonal_pairs_has_a_closed_form():
    z = torch.cat([torch.eye(4), torch.eye(4)])
    assert float(nt_xent(z, 0.5)) == pytest.approx(-math.log(math.e**2 / (math.e**2 + 6)), rel=1e-5)


def test_nt_xent_survives_a_tiny_temperature():
    z = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(nt_xent(z, 1e-4))


def test_training_lowers_the_loss_and_leaves_the_given_encoder_alone():
    encoder, images = planted_encoder_for_training(), planted_images(64)
    before = weights(encoder)
    losses = []

    class Recording(QuietRun):
        def log(self, **scalars):
            losses.append(scalars["loss"])

    trained = pretrain(encoder, images, SimclrConfig(steps=40, batch_size=32, learning_rate=3e-3), Recording(), seed=0)
    assert sum(losses[-5:]) < sum(losses[:5])
    assert torch.equal(before, weights(encoder))
    assert not trained.training


def test_resumed_training_equals_an_unbroken_one(tmp_path):
    encoder, images = planted_encoder_for_training(), planted_images(32)
    unbroken = pretrain(encoder, images, CONFIG, QuietRun(), seed=3)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        pretrain(encoder, images, CONFIG, InterruptedRun(path, after=4), seed=3)
    resumed = pretrain(encoder, images, CONFIG, InterruptedRun(path, start=4), seed=3)
    assert torch.equal(weights(unbroken), weights(resumed))
    assert not torch.equal(weights(unbroken), weights(pretrain(encoder, images, CONFIG, QuietRun(), seed=4)))


def test_two_views_differ_and_depend_only_on_the_generator():
    images = planted_images(4).batch(slice(None))
    views = two_views(images, torch.Generator().manual_seed(1), 0.2)
    assert views.shape == (8, 3, 32, 32)
    assert not torch.allclose(views[:4], views[4:])
    assert torch.equal(views, two_views(images, torch.Generator().manual_seed(1), 0.2))


def test_schedule_warms_up_and_decays():
    factors = [schedule(step, 100) for step in range(100)]
    assert max(factors) == pytest.approx(1.0)
    assert factors[0] < 0.25 and factors[-1] < 0.01
    assert factors[10:] == sorted(factors[10:], reverse=True)
