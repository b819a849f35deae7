"""A step of unlearning in parts: the gradient of the whole batch, and what BatchNorm makes of it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from core.errors import UsageError
from core.memory import memory_budget
from core.micro_batches import cost_of
from core.types import Encoder, Features, Images
from core.unlearning.objective import paired_distance, sliced_distance
from core.unlearning.paired_passes import LEAST_PAIRS, PairedPasses
from core.unlearning.stages import captured

SIDE, BATCH = 12, 21


def network(norm: nn.Module) -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        layers = nn.Sequential(nn.Conv2d(3, 6, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(6 * (SIDE - 2) ** 2, 7))
    return Encoder(layers, name="small", image_size=(SIDE, SIDE), feature_dim=7, mean=(0.5,) * 3, std=(0.3,) * 3)


def images(seed: int) -> Images:
    return torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def paired(of_clean: Features, of_triggered: Features, taught: Features, led_to: Features) -> Tensor:
    return paired_distance(of_triggered, led_to) + paired_distance(of_clean, taught)


def sliced(of_clean: Features, of_triggered: Features, taught: Features, led_to: Features) -> Tensor:
    distance = sliced_distance(7, 16, torch.Generator().manual_seed(0), of_clean)
    return distance(of_triggered, of_clean) + distance(of_clean, taught)


def budget_for(student: Encoder, teacher: Encoder, pairs: int) -> int:
    own = cost_of(student, (SIDE, SIDE), learning=True)
    taught = cost_of(teacher, (SIDE, SIDE), learning=False)
    each = 2 * own.each + taught.each
    return own.fixed + taught.fixed + pairs * each + each // 2


def step(student: Encoder, budget: int, *, divisible: bool) -> tuple[Tensor, list[Tensor]]:
    """The loss and the gradients of one step on a copy of ``student``; the teacher is not quite the student."""
    learner = copy.deepcopy(student).double().requires_grad_(True)  # bf16 is for single precision
    teacher = copy.deepcopy(learner).eval().requires_grad_(False)
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.mul_(1.1)
    led_to = torch.randn(BATCH, 7, generator=torch.Generator().manual_seed(3))
    with captured(learner, ["0"]) as own, captured(teacher, ["0"]) as taught, memory_budget(budget, student.device):
        passes = PairedPasses(learner, teacher, own, taught, 0.5)
        loss = passes.descend(
            images(1).double(), images(2).double(), led_to, paired if divisible else sliced, divisible=divisible
        )
    return loss, [weight.grad for weight in learner.parameters() if weight.grad is not None]


@pytest.mark.parametrize("divisible", [True, False])
@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 6), nn.BatchNorm2d(6).eval()])
def test_parts_have_the_gradient_of_the_whole(norm: nn.Module, divisible: bool) -> None:
    student = network(norm)
    whole = step(student, 2**34, divisible=divisible)
    parts = step(student, budget_for(student, student, 4), divisible=divisible)
    torch.testing.assert_close(parts[0], whole[0], rtol=1e-5, atol=1e-6)
    for one, other in zip(parts[1], whole[1], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_batch_norm_sees_a_part_at_a_time_and_the_report_says_so() -> None:
    student = network(nn.BatchNorm2d(6)).train().requires_grad_(True)
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    seen: list[int] = []
    student.backbone[1].register_forward_pre_hook(lambda layer, given: seen.append(len(given[0])))
    size = budget_for(student, teacher, 11)
    passes = PairedPasses(student, teacher, {}, {}, 0.0)
    seen.clear()
    with memory_budget(size, student.device):
        passes.descend(images(1), images(2), torch.ones(BATCH, 7), paired, divisible=True)
        (note,) = passes.note(images(1), BATCH)
    assert seen == [22, 20]
    assert "22 images at a time instead of 42" in note
    with memory_budget(2**34, student.device):
        assert passes.note(images(1), BATCH) == ()


def test_too_few_pairs_for_statistics_are_refused_with_the_memory_that_they_need() -> None:
    student = network(nn.BatchNorm2d(6)).train().requires_grad_(True)
    teacher = copy.deepcopy(student).eval().requires_grad_(False)
    passes = PairedPasses(student, teacher, {}, {}, 0.0)
    with memory_budget(budget_for(student, teacher, LEAST_PAIRS - 1), student.device):
        with pytest.raises(UsageError, match="16 images"):
            passes.note(images(1), BATCH)
    with memory_budget(budget_for(student, teacher, LEAST_PAIRS), student.device):
        assert passes.note(images(1), BATCH)
