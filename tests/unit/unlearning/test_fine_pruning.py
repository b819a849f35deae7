"""Fine-pruning: the least active channels go, clean features stay above the floor, cut channels stay cut."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from core.errors import UsageError
from core.run import QuietRun
from core.types import Encoder
from core.unlearning.fine_pruning import FinePruningConfig, unlearn
from tests.planted import planted_images, planted_patch

QUICK = FinePruningConfig(steps=10, batch_size=32, prune_steps=16, learning_rate=0.003, floor=0.95)


def _encoder(backbone: nn.Module, dim: int) -> Encoder:
    return Encoder(
        backbone.eval(), name="x", image_size=(32, 32), feature_dim=dim, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    ).eval()


def _silent(weight: torch.Tensor) -> list[int]:
    return (weight.flatten(1).abs().sum(1) == 0).nonzero().flatten().tolist()


def test_channels_are_cut_and_clean_features_stay() -> None:
    planted, images = planted_patch(), planted_images(128)
    result = unlearn(planted.encoder, images, [planted.trigger], QUICK, QuietRun(), seed=0)
    cut = _silent(result.student.backbone.trunk[3].weight)  # type: ignore[union-attr, index, operator]
    assert 0 < len(cut) < 32
    assert f"{len(cut)} of 32" in result.notes[0]
    assert 0 < result.drift < 0.07
    assert len(result.history) == result.steps == 10


def test_a_lower_floor_cuts_more() -> None:
    planted, images = planted_patch(), planted_images(64)
    counts = []
    for floor in (0.99, 0.6):
        config = QUICK.model_copy(update={"floor": floor, "steps": 1})
        student = unlearn(planted.encoder, images, [], config, QuietRun(), seed=0).student
        counts.append(len(_silent(student.backbone.trunk[3].weight)))  # type: ignore[union-attr, index, operator]
    assert counts[0] < counts[1]


def test_a_channel_that_clean_images_leave_silent_is_cut_first() -> None:
    planted, images = planted_patch(), planted_images(64)
    trunk = planted.encoder.backbone.trunk
    with torch.no_grad():
        trunk[4].bias[[3, 7]] = -100  # type: ignore[union-attr, index, operator]
    config = QUICK.model_copy(update={"floor": 0.9999, "steps": 1})
    student = unlearn(planted.encoder, images, [], config, QuietRun(), seed=0).student
    assert _silent(student.backbone.trunk[3].weight) == [3, 7]  # type: ignore[union-attr, index, operator]


@pytest.mark.parametrize(
    ("build", "last", "dim"),
    [
        (torchvision.models.resnet18, "layer4.1.conv2", 512),
        (torchvision.models.mobilenet_v2, "features.18.0", 1280),
        (torchvision.models.shufflenet_v2_x0_5, "conv5.0", 1024),
    ],
)
def test_every_family_of_convolutional_networks(build, last: str, dim: int) -> None:  # type: ignore[no-untyped-def]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = build(weights=None)
    for head in ("fc", "classifier"):
        if hasattr(backbone, head):
            setattr(backbone, head, nn.Identity())
    config = QUICK.model_copy(update={"steps": 1, "prune_steps": 8, "floor": 0.3, "batch_size": 4})
    result = unlearn(_encoder(backbone, dim), planted_images(16), [], config, QuietRun(), seed=0)
    weight = result.student.backbone.get_submodule(last).weight
    assert len(_silent(weight)) >= len(weight) // 8


def test_a_transformer_is_a_usage_error() -> None:
    backbone = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, depth=1)
    with pytest.raises(UsageError) as error:
        unlearn(_encoder(backbone, 192), planted_images(16), [], QUICK, QuietRun(), seed=0)
    assert error.value.problem.code == "no_convolution_to_prune"
