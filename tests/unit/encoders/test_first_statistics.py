"""The first BatchNorm notices a wrong mean or std, and is silent about the right ones."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from core.encoders.architectures import build_backbone
from core.encoders.card import parse_card
from core.encoders.first_statistics import distance_to_training, why_other_pixels
from core.encoders.pretrained import HALF, IMAGENET, Three
from core.types import Encoder, Images, ImageSet
from tests.unit.encoders.weights import CARD


def pictures(seed: int) -> Images:
    """Smooth random pictures of the contrast of photographs."""
    coarse = torch.rand(48, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")


def shown(seed: int) -> ImageSet:
    return ImageSet((pictures(seed) * 255).round().byte(), ("",) * 48, "")


def trained(architecture: str, mean: Three, std: Three) -> nn.Module:
    """A network whose BatchNorms saw such pictures under this normalisation."""
    backbone = build_backbone(parse_card({**CARD, "architecture": architecture}))
    shift, scale = (torch.tensor(value).view(1, 3, 1, 1) for value in (mean, std))
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
        backbone.train()((pictures(1) - shift) / scale)
    return backbone.eval()


def encoder(backbone: nn.Module, mean: Three, std: Three) -> Encoder:
    return Encoder(backbone, name="e", image_size=(32, 32), feature_dim=1, mean=mean, std=std).eval()


RIGHT, WRONG = IMAGENET, HALF


@pytest.mark.parametrize("architecture", ["torchvision/resnet18", "torchvision/shufflenet_v2_x0_5"])
def test_a_wrong_std_is_noticed_and_the_right_one_named(architecture: str) -> None:
    backbone = trained(architecture, *RIGHT)
    assert why_other_pixels(encoder(backbone, *RIGHT), shown(2)) == ()
    (sentence,) = why_other_pixels(encoder(backbone, *WRONG), shown(2))
    assert sentence.startswith("The images, normalised by mean 0.5 0.5 0.5 and std 0.5 0.5 0.5, do not look like")
    ratio = re.search(r"they vary (0\.\d) times as much", sentence)
    assert ratio is not None and 0.1 <= float(ratio[1]) <= 0.4  # (.225 / .5) squared, about; random first layers differ
    assert "With ImageNet's mean and std they would look like them" in sentence


def test_the_ratio_of_variances_is_that_of_the_stds() -> None:
    backbone = trained("torchvision/resnet18", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    found = distance_to_training(encoder(backbone, *WRONG), pictures(1), (0.5, 0.5, 0.5), (0.4, 0.4, 0.4))
    assert found is not None
    assert found.log_variance == pytest.approx(torch.tensor(0.25).log().item(), abs=0.01)
    assert found.where == "bn1"


def test_a_missing_mean_is_noticed() -> None:
    backbone = trained("torchvision/resnet18", *RIGHT)
    (sentence,) = why_other_pixels(encoder(backbone, (0.0, 0.0, 0.0), RIGHT[1]), shown(2))
    assert "With ImageNet's mean and std they would look like them" in sentence


def test_nothing_is_said_where_nothing_is_remembered() -> None:
    untrained = build_backbone(parse_card(CARD))
    assert why_other_pixels(encoder(untrained, *WRONG), shown(2)) == ()
    vit = build_backbone(parse_card({**CARD, "architecture": "timm/test_vit", "input_size": 160}))
    large = nn.functional.interpolate(pictures(2), size=(160, 160)).mul(255).byte()
    assert why_other_pixels(encoder(vit, *WRONG), ImageSet(large, ("",) * 48, "")) == ()
    assert not any(module._forward_pre_hooks for module in untrained.modules())
