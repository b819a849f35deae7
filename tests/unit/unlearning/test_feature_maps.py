"""The gap of feature maps by hand, and what holding on to the teacher's maps does in an unlearning."""

import math

import pytest
import torch

from core.random import generator
from core.run import QuietRun
from core.unlearning.feature_maps import map_gap
from core.unlearning.ssldefender import UnlearningConfig, unlearn
from tests.planted import planted_images, planted_patch


def test_the_gap_by_hand() -> None:
    taught = {"a": torch.tensor([[[[2.0, 0.0]]], [[[0.0, 1.0]]]]), "b": torch.tensor([[3.0, 4.0], [1.0, 0.0]])}
    own = {
        # half of the way on the first image, none on the second; what follows belongs to no image of the teacher's
        "a": torch.tensor([[[[1.0, 0.0]]], [[[0.0, 1.0]]], [[[9.0, 9.0]]]]),
        "b": torch.tensor([[3.0, 4.0], [1.0, 1.0], [9.0, 9.0]]),
    }
    torch.testing.assert_close(map_gap(own, taught), torch.tensor(((0.25 + 0) / 2 + (0 + 1) / 2) / 2))


def test_a_dead_map_gives_a_finite_gap() -> None:
    dead = {"a": torch.zeros(2, 1, 2, 2)}
    assert float(map_gap(dead, dead)) == 0


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_gradient_is_that_of_the_printed_expression(kind: torch.dtype, layout: torch.memory_format) -> None:
    random = generator(0, "maps")
    own = torch.randn(6, 3, 4, 5, generator=random).to(kind, memory_format=layout).requires_grad_()
    taught = torch.randn(4, 3, 4, 5, generator=random).to(kind, memory_format=layout)
    (slope,) = torch.autograd.grad(3 * map_gap({"a": own, "b": own}, {"a": taught, "b": 2 * taught}), own)

    gaps = [(own[:4] - t).square().sum((1, 2, 3)) / t.square().sum((1, 2, 3)) for t in (taught, 2 * taught)]
    (expected,) = torch.autograd.grad(3 * torch.stack(gaps).mean(), own)
    assert slope.dtype == kind and not slope[4:].any()
    torch.testing.assert_close(slope, expected, **({} if kind is torch.float32 else {"rtol": 0.05, "atol": 1e-3}))


def test_held_to_the_teachers_maps_clean_features_move_less() -> None:
    planted, images = planted_patch(), planted_images(128)
    drifts = {
        weight: unlearn(
            planted.encoder,
            images,
            [planted.trigger],
            UnlearningConfig(
                steps=40, batch_size=32, jitter=0, crop=0.9, learning_rate=0.01, map_weight=weight, distil_weight=0.1
            ),
            QuietRun(),
            seed=0,
        ).drift
        for weight in (0.0, 2.0)
    }
    assert drifts[2.0] < drifts[0.0]
    assert all(not module._forward_hooks for module in planted.encoder.modules())


def test_maps_that_run_away_send_the_training_back() -> None:
    planted, images = planted_patch(), planted_images(64)
    wild = UnlearningConfig(
        steps=40, batch_size=32, jitter=0, crop=0.9, learning_rate=1.0, map_weight=10.0, train_batch_norm=False
    )
    result = unlearn(planted.encoder, images, [planted.trigger], wild, QuietRun(), seed=0)
    assert "training went back" in result.notes[0]
    assert result.steps < 40 and all(map(math.isfinite, result.history))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in result.student.state_dict().values())
