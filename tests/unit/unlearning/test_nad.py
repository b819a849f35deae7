"""Attention distillation: attention by hand, stages found in every family, the student follows its teacher."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from core.errors import UsageError
from core.run import QuietRun
from core.types import Encoder
from core.unlearning.attention import attention, captured, last_stages
from core.unlearning.nad import NadConfig, unlearn
from tests.planted import planted_images, planted_patch

QUICK = NadConfig(learning_rate=0.003, teacher_learning_rate=0.003, steps=20, teacher_steps=20, batch_size=32)


def _encoder(backbone: nn.Module) -> Encoder:
    return Encoder(
        backbone.eval(), name="x", image_size=(64, 64), feature_dim=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    ).eval()


def test_attention_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 0.0]], [[-1.0, 2.0]]]])  # two channels of two places: sums 2 and 4
    expected = torch.tensor([[2.0, 4.0]]) / 20**0.5
    torch.testing.assert_close(attention(maps, 2), expected)


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
    assert last_stages(encoder, torch.rand(2, 3, 64, 64)) == expected


def test_a_transformer_is_a_usage_error() -> None:
    encoder = _encoder(timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0, depth=1))
    with pytest.raises(UsageError) as error:
        last_stages(encoder, torch.rand(2, 3, 64, 64))
    assert error.value.problem.code == "no_feature_maps"


def test_no_hook_stays_behind() -> None:
    encoder = planted_patch().encoder
    with captured(encoder, ["trunk"]) as outputs:
        encoder(torch.rand(2, 3, 32, 32))
        assert list(outputs) == ["trunk"]
    assert all(not module._forward_hooks for module in encoder.modules())


def test_the_student_follows_and_clean_features_stay() -> None:
    planted, images = planted_patch(), planted_images(128)
    result = unlearn(planted.encoder, images, [planted.trigger], QUICK, QuietRun(), seed=0)
    assert len(result.history) == result.steps == 20
    assert sum(result.history[-5:]) < sum(result.history[:5])
    assert 0 < result.drift < 0.05
    assert all(not module._forward_hooks for module in result.student.modules())


def test_a_teacher_that_was_not_tuned_teaches_nothing_new() -> None:
    planted, images = planted_patch(), planted_images(64)
    config = QUICK.model_copy(update={"teacher_steps": 0, "steps": 5})
    result = unlearn(planted.encoder, images, [], config, QuietRun(), seed=0)
    assert result.drift < 1e-5
    assert max(result.history) < 1e-4
