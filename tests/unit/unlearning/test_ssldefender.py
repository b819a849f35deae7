"""Unlearning on the planted backdoors: the trigger loses its hold, clean features stay, the input encoder is
untouched."""

import pytest
import torch

from core.errors import UsageError
from core.ops.cosine import similarity_to
from core.run import QuietRun
from core.unlearning.ssldefender import UnlearningConfig, unlearn
from tests.planted import planted_additive, planted_images, planted_patch

QUICK = UnlearningConfig(steps=60, batch_size=32, jitter=0, crop=0.9, learning_rate=0.01)


@pytest.mark.parametrize("plant", [planted_patch, planted_additive])
@pytest.mark.parametrize("distance", ["paired_cosine", "sliced_wasserstein"])
def test_the_trigger_no_longer_leads_to_the_target(plant, distance: str) -> None:  # type: ignore[no-untyped-def]
    planted, images = plant(), planted_images(128)
    config = QUICK.model_copy(update={"distance": distance})
    if distance == "sliced_wasserstein":  # on features times sqrt(D) a steeper loss; the paper's equal weights, no maps
        config = config.model_copy(update={"learning_rate": 0.005, "unlearn_weight": 0.5, "map_weight": 0.0})
    before = {name: tensor.clone() for name, tensor in planted.encoder.state_dict().items()}
    result = unlearn(planted.encoder, images, [planted.trigger], config, QuietRun(), seed=0)
    test = planted_images(32, seed=9).batch(slice(None))
    with torch.no_grad():
        after = similarity_to(result.student(planted.trigger(test)), planted.direction)
        at_first = similarity_to(planted.encoder(planted.trigger(test)), planted.direction)
    assert float(at_first) > 0.95
    assert float(after) < float(at_first) - 0.15
    assert result.drift < 0.1
    assert result.residual_similarity < result.initial_similarity
    assert len(result.history) == result.steps == 60
    assert all(torch.equal(tensor, before[name]) for name, tensor in planted.encoder.state_dict().items())


def test_the_same_seed_gives_the_same_weights() -> None:
    planted, images = planted_patch(), planted_images(64)
    config = QUICK.model_copy(update={"steps": 5})
    first, second = (
        unlearn(planted.encoder, images, [planted.trigger], config, QuietRun(), seed=3).student.state_dict()
        for _ in range(2)
    )
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_the_guard_stops_when_clean_features_run_away() -> None:
    planted, images = planted_patch(), planted_images(64)
    wild = QUICK.model_copy(
        update={"learning_rate": 1.0, "distil_weight": 0.0, "detach_clean": False, "max_drift": 0.001}
    )
    result = unlearn(planted.encoder, images, [planted.trigger], wild, QuietRun(), seed=0)
    assert result.steps < 60 and result.drift <= 0.001
    assert "Stopped after" in result.notes[-1]


def test_an_overshoot_leaves_the_triggered_features_farther_from_the_target_than_clean_ones() -> None:
    planted, images = planted_patch(), planted_images(128)
    test = planted_images(32, seed=9).batch(slice(None))
    lead = {}
    for overshoot in (0.0, 1.0):
        config = QUICK.model_copy(update={"overshoot": overshoot, "steps": 120})
        student = unlearn(planted.encoder, images, [planted.trigger], config, QuietRun(), seed=0).student
        with torch.no_grad():
            triggered, clean = student(planted.trigger(test)), student(test)
            lead[overshoot] = float(
                similarity_to(triggered, planted.direction) - similarity_to(clean, planted.direction)
            )
    assert lead[1.0] < 0 < lead[0.0]


def test_led_to_the_teacher_first_it_ends_elsewhere() -> None:
    planted, images = planted_patch(), planted_images(64)
    one, other = (
        unlearn(
            planted.encoder,
            images,
            [planted.trigger],
            QUICK.model_copy(update={"steps": 6, "lead_in": lead_in}),
            QuietRun(),
            seed=0,
        ).student.state_dict()
        for lead_in in (0.0, 1.0)
    )
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_no_triggers_is_a_usage_error() -> None:
    planted = planted_patch()
    with pytest.raises(UsageError) as error:
        unlearn(planted.encoder, planted_images(64), [], QUICK, QuietRun(), seed=0)
    assert error.value.problem.code == "no_triggers"


def test_the_papers_preset_runs_with_its_fine_tuned_teacher() -> None:
    planted, images = planted_patch(), planted_images(64)
    config = UnlearningConfig(**{**UnlearningConfig.presets["paper"], "steps": 3, "teacher_steps": 2, "batch_size": 16})
    assert unlearn(planted.encoder, images, [planted.trigger], config, QuietRun(), seed=0).steps == 3
