"""Neural Cleanse's unlearning: one patch loses its hold, other triggers are not looked at."""

import pytest
import torch

from core.errors import UsageError
from core.ops.cosine import similarity_to
from core.run import QuietRun
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.unlearning.neural_cleanse import NeuralCleanseConfig, unlearn
from tests.planted import planted_images, planted_patch

QUICK = NeuralCleanseConfig(steps=60, batch_size=32, learning_rate=0.03, stamped=0.2)


def test_the_patch_no_longer_leads_to_the_target_and_clean_features_stay() -> None:
    planted, images = planted_patch(), planted_images(128)
    result = unlearn(planted.encoder, images, [planted.trigger], QUICK, QuietRun(), seed=0)
    test = planted_images(32, seed=9).batch(slice(None))
    with torch.no_grad():
        after = similarity_to(result.student(planted.trigger(test)), planted.direction)
        at_first = similarity_to(planted.encoder(planted.trigger(test)), planted.direction)
    assert float(at_first) > 0.95
    assert float(after) < float(at_first) - 0.1
    assert result.drift < 0.2
    assert len(result.history) == result.steps == 60


def test_only_the_first_patch_counts() -> None:
    planted, images = planted_patch(), planted_images(64)
    config = QUICK.model_copy(update={"steps": 3})
    noise = AdditiveTrigger(torch.full((3, 32, 32), 8 / 255))
    other = MaskedTrigger(planted.trigger.mask.flip(2), torch.zeros(3, 32, 32))  # type: ignore[union-attr]

    def trained(*triggers: MaskedTrigger | AdditiveTrigger) -> dict[str, torch.Tensor]:
        return unlearn(planted.encoder, images, triggers, config, QuietRun(), seed=0).student.state_dict()

    alone, among, without = trained(planted.trigger), trained(noise, planted.trigger, other), trained(other)
    assert all(torch.equal(tensor, among[name]) for name, tensor in alone.items())
    assert any(not torch.equal(tensor, without[name]) for name, tensor in alone.items())


def test_no_triggers_is_a_usage_error() -> None:
    with pytest.raises(UsageError) as error:
        unlearn(planted_patch().encoder, planted_images(64), [], QUICK, QuietRun(), seed=0)
    assert error.value.problem.code == "no_triggers"
