"""Stages found in every family of networks, and no hook that stays behind."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from core.errors import UsageError
from core.types import Encoder
from core.unlearning.stages import captured, intermediate_stages, last_resolutions
from tests.planted import planted_patch


def _encoder(backbone: nn.Module) -> Encoder:
    return Encoder(
        backbone.eval(), name="x", image_size=(64, 64), feature_dim=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    ).eval()


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (torchvision.models.resnet18, ["layer2", "layer3", "layer4"]),
        (torchvision.models.mobilenet_v2, ["features.6", "features.13", "features.18"]),
        (torchvision.models.shufflenet_v2_x0_5, ["stage2", "stage3", "conv5"]),
    ],
)
def test_the_last_three_resolutions_of_a_family(build, expected: list[str]) -> None:  # type: ignore[no-untyped-def]
    with torch.random.fork_rng():
        encoder = _encoder(build(weights=None))
    assert last_resolutions(encoder, torch.rand(2, 3, 64, 64)) == expected


def test_a_transformer_is_a_usage_error() -> None:
    encoder = _encoder(timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0, depth=1))
    with pytest.raises(UsageError) as error:
        last_resolutions(encoder, torch.rand(2, 3, 64, 64))
    assert error.value.problem.code == "no_feature_maps"


def test_no_hook_stays_behind() -> None:
    encoder = planted_patch().encoder
    with captured(encoder, ["trunk"]) as outputs:
        encoder(torch.rand(2, 3, 32, 32))
        assert list(outputs) == ["trunk"]
    assert all(not module._forward_hooks for module in encoder.modules())


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (torchvision.models.resnet18, ["layer2", "layer3", "layer4"]),
        (
            lambda weights: timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0, depth=7),
            ["blocks.1", "blocks.3", "blocks.6"],
        ),
        (
            lambda weights: torchvision.models.VisionTransformer(64, 16, 2, 2, 8, 16),
            ["encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1"],
        ),
        (lambda weights: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 8)), []),
    ],
)
def test_where_a_student_is_compared_with_its_teacher(build, expected: list[str]) -> None:  # type: ignore[no-untyped-def]
    with torch.random.fork_rng():
        encoder = _encoder(build(weights=None))
    assert intermediate_stages(encoder, torch.rand(2, 3, 64, 64)) == expected
