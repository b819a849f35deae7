"""Every trainer keeps the promises of the training loop."""

import math

import pytest
import torch

from core.errors import UsageError
from core.run import QuietRun
from core.training.pretrain import epoch_batch, learning_rate_factor, planned_steps, pretrain
from core.training.simclr import SimclrConfig
from core.training.trainers import TRAINERS, find_trainer
from tests.planted import planted_encoder_for_training, planted_images
from tests.unit.training.interrupted_run import InterruptedRun

SMALL = {
    "simclr": {},
    "moco-v2": {"queue": 24, "batch_norm_groups": 2},
    "moco-v3": {"hidden_dim": 16, "projection_dim": 8},
    "byol": {"hidden_dim": 16, "projection_dim": 8},
}
EVERY = pytest.mark.parametrize("key", list(TRAINERS))


def configured(key, **values):
    row = find_trainer(key)
    return row.objective, row.config(**{"batch_size": 8, "epochs": 2, **SMALL[key], **values})


def weights(encoder):
    return torch.cat([tensor.flatten().float() for tensor in encoder.state_dict().values()])


@EVERY
def test_training_lowers_the_loss_and_leaves_the_given_encoder_alone(key):
    encoder, images = planted_encoder_for_training(), planted_images(64)
    before = weights(encoder)
    # MoCo's queue fills with ever harder keys: its loss starts low and only falls once the queue is full.
    objective, config = configured(key, batch_size=32, epochs=20, learning_rate=3e-3)
    losses = []

    class Recording(QuietRun):
        def log(self, **scalars):
            losses.append(scalars["loss"])

    result = pretrain(encoder, images, objective, config, Recording(), seed=0, monitor_times=20)
    curve = [point.loss for point in result.curve]
    assert result.steps == 40 and result.curve[-1].step == 40
    assert sum(curve[-4:]) < sum(curve[2:6])
    assert torch.equal(before, weights(encoder))
    assert not result.encoder.training
    assert not torch.equal(before, weights(result.encoder))


def test_a_frozen_encoder_as_loading_gives_it_is_trained_too():
    encoder = planted_encoder_for_training().requires_grad_(False)
    objective, config = configured("simclr")
    trained = pretrain(encoder, planted_images(16), objective, config, QuietRun(), seed=0).encoder
    moved = [not torch.equal(*pair) for pair in zip(encoder.parameters(), trained.parameters(), strict=True)]
    assert all(moved)


@EVERY
@pytest.mark.parametrize("cut_mix", [False, True])
def test_a_resumed_training_equals_an_unbroken_one(key, cut_mix, tmp_path):
    encoder, images = planted_encoder_for_training(), planted_images(32)
    objective, config = configured(key, cut_mix=cut_mix)

    def train(run, seed=3):
        return pretrain(encoder, images, objective, config, run, seed=seed)

    unbroken = train(QuietRun())
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(InterruptedRun(path, after=5))
    resumed = train(InterruptedRun(path, start=5))
    assert torch.equal(weights(unbroken.encoder), weights(resumed.encoder))
    assert unbroken.curve == resumed.curve
    assert not torch.equal(weights(unbroken.encoder), weights(train(QuietRun(), seed=4).encoder))


def test_the_monitor_is_asked_at_even_steps_and_at_the_end():
    asked = []
    objective, config = configured("simclr", epochs=3)

    def monitor(encoder):
        asked.append(encoder)
        return float(len(asked))

    result = pretrain(
        planted_encoder_for_training(),
        planted_images(32),
        objective,
        config,
        QuietRun(),
        seed=0,
        monitor=monitor,
        monitor_times=4,
    )
    assert [(point.step, point.monitor) for point in result.curve] == [(3, 1.0), (6, 2.0), (9, 3.0), (12, 4.0)]


def test_every_pass_visits_each_image_once_in_another_order():
    first, second = (torch.cat([epoch_batch(20, 5, 7, step) for step in range(k, k + 4)]) for k in (0, 4))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert first.tolist() != second.tolist()


def test_an_incomplete_batch_is_left_out():
    assert planned_steps(25, SimclrConfig(batch_size=10, epochs=3)) == 6
    assert planned_steps(25, SimclrConfig(batch_size=10, epochs=0.5)) == 1


def test_fewer_images_than_a_batch_are_refused():
    with pytest.raises(UsageError, match="9 images"):
        planned_steps(9, SimclrConfig(batch_size=10))


def test_the_rate_rises_and_falls():
    config = SimclrConfig(warm_up=0.1)
    factors = [learning_rate_factor(config, step, 100) for step in range(100)]
    assert max(factors) == pytest.approx(1.0)
    assert factors[0] == pytest.approx(0.1) and factors[-1] < 0.01
    assert factors[10:] == sorted(factors[10:], reverse=True)
    constant = SimclrConfig(warm_up=0.0, schedule="constant")
    assert {learning_rate_factor(constant, step, 100) for step in range(100)} == {1.0}


@EVERY
def test_every_preset_is_a_configuration(key):
    row = find_trainer(key)
    for values in row.presets.values():
        assert math.isfinite(row.config(**values).learning_rate)


def test_an_unknown_trainer_names_those_there_are():
    with pytest.raises(UsageError, match="simclr, moco-v2"):
        find_trainer("dino")
