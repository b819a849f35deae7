"""Fine-tuning on clean images: the loss falls, clean features stay near the anchor, no trigger is needed."""

import torch
from torch import nn

from core.run import QuietRun
from core.unlearning.fine_tuning import FineTuningConfig, unlearn
from tests.planted import planted_images, planted_patch

QUICK = FineTuningConfig(steps=40, batch_size=32, learning_rate=0.003)


def test_the_loss_falls_and_clean_features_stay() -> None:
    planted, images = planted_patch(), planted_images(128)
    result = unlearn(planted.encoder, images, [planted.trigger], QUICK, QuietRun(), seed=0)
    assert len(result.history) == result.steps == 40
    assert sum(result.history[-5:]) < sum(result.history[:5])
    assert 0 < result.drift < 0.05
    assert result.initial_similarity > 0.9


def test_the_anchor_holds_the_features() -> None:
    planted, images = planted_patch(), planted_images(128)
    free = QUICK.model_copy(update=FineTuningConfig.presets["unanchored"])
    drifts = [
        unlearn(planted.encoder, images, [], config, QuietRun(), seed=0).drift
        for config in (QUICK.model_copy(update={"anchor_weight": 5.0}), free.model_copy(update={"max_drift": 2.0}))
    ]
    assert drifts[0] < drifts[1]


def test_batch_norm_is_frozen() -> None:
    planted, images = planted_patch(), planted_images(64)
    config = QUICK.model_copy(update={"steps": 3})
    student = unlearn(planted.encoder, images, [], config, QuietRun(), seed=0).student
    before = dict(planted.encoder.named_modules())
    for name, layer in student.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            for key, value in layer.state_dict().items():
                assert torch.equal(value, before[name].state_dict()[key]), (name, key)


def test_without_triggers_nothing_is_said_about_them() -> None:
    planted, images = planted_patch(), planted_images(64)
    result = unlearn(planted.encoder, images, [], QUICK.model_copy(update={"steps": 2}), QuietRun(), seed=0)
    assert result.initial_similarity == result.residual_similarity == 0


def test_the_guard_stops_when_clean_features_run_away() -> None:
    planted, images = planted_patch(), planted_images(64)
    wild = QUICK.model_copy(update={"learning_rate": 1.0, "anchor_weight": 0.0, "max_drift": 1e-4})
    result = unlearn(planted.encoder, images, [], wild, QuietRun(), seed=0)
    assert result.steps < 40
    assert "Stopped after" in result.notes[0]
