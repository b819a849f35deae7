"""The control: random patches and patterns within their bounds, unlearnt as recovered ones would be."""

import torch

from core.run import QuietRun
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.unlearning import ssldefender
from core.unlearning.random_triggers import RandomTriggersConfig, draw_triggers, unlearn
from tests.planted import planted_images, planted_patch

QUICK = RandomTriggersConfig(steps=30, batch_size=32, learning_rate=0.08, patches=2, patterns=2)


def test_triggers_keep_their_bounds_and_follow_the_seed() -> None:
    first, again, other = (draw_triggers((32, 48), QUICK, seed) for seed in (0, 0, 1))
    patches = [trigger for trigger in first if isinstance(trigger, MaskedTrigger)]
    patterns = [trigger for trigger in first if isinstance(trigger, AdditiveTrigger)]
    assert len(patches) == len(patterns) == 2
    assert all(float(trigger.mask.sum()) == 36 for trigger in patches)  # 0.2 of 32 is 6 pixels
    assert all(float(trigger.delta.abs().max()) <= 16 / 255 for trigger in patterns)
    images = torch.rand(2, 3, 32, 48)
    for one, same, different in zip(first, again, other, strict=True):
        assert torch.equal(one(images), same(images))
        assert not torch.equal(one(images), different(images))


def test_clean_features_stay_and_the_result_speaks_of_the_given_trigger() -> None:
    planted, images = planted_patch(), planted_images(128)
    result = unlearn(planted.encoder, images, [planted.trigger], QUICK, QuietRun(), seed=0)
    assert len(result.history) == result.steps == 30
    assert result.drift < 0.1
    assert result.initial_similarity > 0.99


def test_the_recovered_trigger_unlearns_more() -> None:
    planted, images = planted_patch(), planted_images(128)
    control = unlearn(planted.encoder, images, [planted.trigger], QUICK, QuietRun(), seed=0)
    config = ssldefender.UnlearningConfig(steps=30, batch_size=32, learning_rate=0.08)
    recovered = ssldefender.unlearn(planted.encoder, images, [planted.trigger], config, QuietRun(), seed=0)
    assert recovered.residual_similarity < control.residual_similarity - 0.05
