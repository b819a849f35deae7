"""Passes in parts: what fits, and gradients that are those of the whole batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from core.errors import UsageError
from core.live_bytes import LiveBytes
from core.memory import memory_budget
from core.memory_size import parse_size
from core.micro_batches import cost_of, even_slices, features_in_chunks, features_of, groups, in_parts, room
from core.ops.cosine import pairwise_similarity
from core.recovery.ascent import ascend
from core.recovery.hypotheses import AdditivePattern, MaskedPattern, SpectralPattern
from core.run import QuietRun
from core.types import Encoder, Images
from tests.planted import planted_images, planted_patch

SIDE = 12


def encoder(*, norm: bool = True) -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        layers = [nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6) if norm else nn.GroupNorm(2, 6), nn.Tanh()]
        network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * (SIDE - 2) ** 2, 7))
    made = Encoder(
        network, name="small", image_size=(SIDE, SIDE), feature_dim=7, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)
    )
    return made.eval()


def images(count: int) -> Images:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def budget_for(subject: Encoder, count: int, *, learning: bool = True) -> int:
    cost = cost_of(subject, subject.image_size, learning=learning)
    return cost.fixed + count * cost.each + cost.each // 2


def test_live_bytes_are_those_that_are_held_at_the_same_time() -> None:
    with LiveBytes() as live:
        first = torch.zeros(1000)
        second = first + 1  # 8,000 bytes
        view = second.view(10, 100)  # no new memory
        del first
        third = view * 2  # 8,000 again
        del second, view
        third.add_(1)
    assert live.peak == 8000


def test_an_image_costs_at_least_its_activations_and_the_cost_is_measured_once() -> None:
    subject = encoder().requires_grad_(False)
    passes: list[int] = []
    subject.backbone[0].register_forward_hook(lambda layer, given, output: passes.append(len(output)))
    looking = cost_of(subject, (SIDE, SIDE), learning=False)
    learning = cost_of(subject, (SIDE, SIDE), learning=True)
    maps = 6 * (SIDE - 2) ** 2 * 4
    assert maps < looking.each < learning.each
    assert learning.each > 2 * maps  # a convolution's output and the activation's are kept for the backward pass
    assert cost_of(subject, (SIDE, SIDE), learning=True) == learning
    assert passes == [2, 4, 2, 4]
    assert cost_of(subject.requires_grad_(True), (SIDE, SIDE), learning=True).fixed > 4 * 7 * maps / 4


def test_measuring_changes_neither_statistics_nor_random_numbers() -> None:
    subject = encoder().train()
    before = copy.deepcopy(subject.state_dict())
    torch.manual_seed(3)
    cost_of(subject, (SIDE, SIDE), learning=True)
    drawn = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(3))
    assert all(torch.equal(before[name], tensor) for name, tensor in subject.state_dict().items())


@pytest.mark.parametrize("at_once", [1, 3, 10])
def test_gradients_of_a_loss_that_couples_all_images_are_exact(at_once: int) -> None:
    subject = encoder().double()
    pixels = images(10).double()

    def gradients(budget: int) -> tuple[Tensor, ...]:
        given = pixels.clone().requires_grad_()
        with memory_budget(budget, subject.device):
            (features,) = in_parts(subject, given, lambda part: (subject(part),))
            loss = pairwise_similarity_64(features)
            return (features, *torch.autograd.grad(loss, [given, *subject.parameters()]))

    whole, parts = gradients(2**34), gradients(budget_for(subject, at_once))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def pairwise_similarity_64(features: Tensor) -> Tensor:
    unit = nn.functional.normalize(features, dim=1)
    return (unit @ unit.T).fill_diagonal_(0).sum() / (len(unit) * (len(unit) - 1))


def test_parts_are_as_large_as_memory_allows() -> None:
    subject = encoder().requires_grad_(False)
    seen: list[int] = []
    subject.backbone.register_forward_pre_hook(lambda layer, given: seen.append(len(given[0])))
    sizes = {learning: budget_for(subject, 4, learning=learning) for learning in (False, True)}
    seen.clear()
    with memory_budget(sizes[False], subject.device):
        features_in_chunks(subject, images(10))
    assert seen == [4, 4, 2]
    seen.clear()
    with memory_budget(sizes[True], subject.device):
        features_of(subject, images(10).requires_grad_()).sum().backward()
    assert seen[:3] == [4, 4, 2] and sorted(seen[3:]) == [2, 4, 4]  # each part once more for its gradient


def test_a_batch_that_fits_passes_once_and_as_before() -> None:
    subject = planted_patch().encoder.requires_grad_(False)
    pixels = planted_images(48).batch(slice(None))
    # The largest batch of the default search: a hundred windows on six images.
    assert room(subject, pixels, learning=True) >= 600
    assert groups(subject, pixels[:6], 100) == [slice(0, 100)]
    expected = subject(pixels.contiguous(memory_format=torch.channels_last))
    if not torch.cpu._is_avx512_bf16_supported():
        assert torch.equal(features_of(subject, pixels), expected)
    torch.testing.assert_close(features_of(subject, pixels), expected, rtol=0.05, atol=0.05)


def test_triggers_in_groups_end_where_they_end_alone() -> None:
    subject = encoder().requires_grad_(False)
    hypotheses = [MaskedPattern(0.1), AdditivePattern(0.1), SpectralPattern(1.6)]
    start = [torch.randn(h.channels, *h.canvas((SIDE, SIDE))) for h in hypotheses]

    def run(chosen: list[int]) -> list[Tensor]:
        return ascend(
            subject,
            images(20),
            [hypotheses[i] for i in chosen],
            pairwise_similarity,
            QuietRun(),
            stage="together",
            steps=3,
            batch_size=5,
            seed=2,
            start=[start[i] for i in chosen],
        )

    with memory_budget(budget_for(subject, 7), subject.device):
        assert groups(subject, images(5), 3) == [slice(0, 1), slice(1, 2), slice(2, 3)]
        grouped = run([0, 1, 2])
    alone = [run([i])[0] for i in range(3)]
    assert all(torch.equal(one, other) for one, other in zip(grouped, alone, strict=True))


def test_slices_are_even_and_cover_everything() -> None:
    assert even_slices(10, 4) == [slice(0, 4), slice(4, 8), slice(8, 10)]
    assert even_slices(12, 11) == [slice(0, 6), slice(6, 12)]
    assert even_slices(3, 100) == [slice(0, 3)]
    assert even_slices(0, 5) == []


def test_a_stated_budget_that_holds_no_image_is_refused_with_one_that_does() -> None:
    subject = encoder().requires_grad_(False)
    with memory_budget(1000, subject.device), pytest.raises(UsageError) as caught:
        room(subject, images(1), learning=True)
    problem = caught.value.problem
    assert problem.code == "memory_too_small"
    advised = problem.action.partition("--memory ")[2].split(",")[0]
    with memory_budget(max(parse_size("64MiB"), 2**20 * int(advised.removesuffix("MiB"))), subject.device):
        assert room(subject, images(1), learning=True) >= 1
