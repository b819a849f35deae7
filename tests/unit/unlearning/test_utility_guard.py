"""The guard keeps the weights of the last good look, gives them back, and survives a checkpoint."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from core.checkpoint import load_checkpoint, save_checkpoint
from core.run import QuietRun
from core.types import Encoder
from core.unlearning.ssldefender import UnlearningConfig, unlearn
from core.unlearning.utility import UtilityEvaluator
from core.unlearning.utility_guard import GuardedConfig, UtilityGuard, is_due
from tests.planted import planted_images, planted_patch
from tests.unit.training.interrupted_run import InterruptedRun

WILD = UnlearningConfig(
    steps=60,
    batch_size=32,
    jitter=0,
    crop=0.9,
    learning_rate=0.01,
    distil_weight=0.0,
    detach_clean=False,
    train_batch_norm=False,
    lead_in=0.0,
    max_drift=0.3,
)
"""Nothing holds clean features: they run away, whatever the rate."""


def guarded(**limits: float) -> tuple[Encoder, UtilityGuard]:
    encoder = planted_patch().encoder
    student = copy.deepcopy(encoder)
    evaluator = UtilityEvaluator(encoder, planted_images(64).batch(slice(None)), [])
    return student, UtilityGuard(evaluator, student, GuardedConfig(**limits))


def shake(student: Encoder, size: float) -> None:
    """Random numbers of ``size`` on every weight."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.parameters():
            weight += size * weight.abs().mean() * torch.randn(weight.shape, generator=random)


def weights(student: Encoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in student.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_the_last_good_weights_come_back() -> None:
    student, guard = guarded(max_drift=0.05)
    at_first = weights(student)
    shake(student, 0.01)
    guard.look(10)
    good = weights(student)
    assert not guard.stopped
    shake(student, 3.0)
    guard.look(20)
    assert guard.stopped
    (note,) = guard.settle()
    assert same(weights(student), good) and not same(good, at_first)
    assert note.startswith("Stopped after 20 steps: clean features moved")
    assert note.endswith("The weights are those after 10 steps.")


def test_a_training_within_the_limits_keeps_its_own_weights() -> None:
    student, guard = guarded(max_drift=0.05)
    guard.look(10)
    shake(student, 0.01)
    after = weights(student)
    assert guard.settle() == ()
    assert same(weights(student), after)


def test_neighbours_that_change_stop_it_where_the_drift_does_not() -> None:
    student, guard = guarded(max_drift=2.0, min_agreement=0.9)
    shake(student, 0.5)
    guard.look(10)
    assert guard.stopped
    (note,) = guard.settle()
    assert "nearest neighbours, less than 90%" in note
    free, unguarded = guarded(max_drift=2.0, min_agreement=0.0)
    shake(free, 0.5)
    unguarded.look(10)
    assert not unguarded.stopped


def test_a_drift_that_is_not_a_number_stops_it() -> None:
    student, guard = guarded(max_drift=2.0, min_agreement=0.0)
    with torch.no_grad():
        next(student.parameters()).fill_(float("nan"))
    guard.look(10)
    assert guard.stopped
    guard.settle()
    assert all(bool(weight.isfinite().all()) for weight in student.parameters())


def test_the_last_step_is_always_looked_at() -> None:
    assert [step for step in range(13) if is_due(step, 13)] == [9, 12]


def test_good_weights_survive_a_checkpoint(tmp_path: Path) -> None:
    student, guard = guarded(max_drift=0.05)
    shake(student, 0.01)
    guard.look(10)
    good = weights(student)
    shake(student, 3.0)
    guard.look(20)
    save_checkpoint(tmp_path / "guard", guard.state_dict())
    other, restored = guarded(max_drift=0.05)
    restored.load_state_dict(load_checkpoint(tmp_path / "guard"))
    assert restored.stopped
    assert restored.settle() == guard.settle()
    assert same(weights(other), good)


def test_a_stopped_unlearning_delivers_weights_within_the_limit() -> None:
    planted, images = planted_patch(), planted_images(64)
    result = unlearn(planted.encoder, images, [planted.trigger], WILD, QuietRun(), seed=0)
    assert result.steps < WILD.steps
    assert 0 < result.drift <= WILD.max_drift
    assert result.notes[0].startswith("3 times clean features moved too far")
    assert "The weights are those after" in result.notes[1]


@pytest.mark.parametrize("after", [9, 11])
def test_resumed_before_or_after_a_look_it_stops_at_the_same_weights(tmp_path: Path, after: int) -> None:
    planted, images = planted_patch(), planted_images(64)
    triggers = [planted.trigger]
    unbroken = unlearn(planted.encoder, images, triggers, WILD, QuietRun(), seed=0)
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        unlearn(planted.encoder, images, triggers, WILD, InterruptedRun(path, after=after), seed=0)
    resumed = unlearn(planted.encoder, images, triggers, WILD, InterruptedRun(path, start=after), seed=0)
    assert unbroken.notes and resumed.notes == unbroken.notes
    assert resumed.history == unbroken.history
    assert same(weights(resumed.student), weights(unbroken.student))
