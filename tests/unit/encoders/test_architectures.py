from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from core.encoders.architectures import build_backbone, known_architectures, shapes_of
from core.encoders.card import EncoderCard, parse_card
from core.encoders.shape_index import architectures_by_fingerprint, default_card, index_row
from core.errors import UnsupportedInput
from tests.unit.encoders.weights import CARD, RESNET_CARD


def card(**changes: Any) -> EncoderCard:
    return parse_card({**CARD, **changes})


def test_the_head_is_gone_and_features_are_left() -> None:
    backbone = build_backbone(card())
    assert not any(name.startswith("fc.") for name in shapes_of(backbone))
    assert backbone(torch.zeros(2, 3, 32, 32)).shape == (2, 1024)
    assert not backbone.training


def test_timm_networks_come_without_their_head() -> None:
    backbone = build_backbone(card(architecture="timm/test_resnet"))
    assert backbone(torch.zeros(1, 3, 32, 32)).ndim == 2


def test_position_embeddings_follow_the_input_size() -> None:
    small = shapes_of(build_backbone(card(architecture="timm/test_vit", input_size=64), device="meta"))
    large = shapes_of(build_backbone(card(architecture="timm/test_vit", input_size=96), device="meta"))
    assert small["pos_embed"][1] < large["pos_embed"][1]


def test_overrides_change_the_convolution_and_remove_the_pool() -> None:
    backbone = build_backbone(parse_card(RESNET_CARD), device="meta")
    convolution = backbone.get_submodule("conv1")
    assert isinstance(convolution, nn.Conv2d)
    assert (convolution.kernel_size, convolution.stride, convolution.padding) == ((3, 3), (1, 1), (1, 1))
    assert convolution.bias is None
    assert isinstance(backbone.get_submodule("maxpool"), nn.Identity)


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    build_backbone(card())
    assert torch.equal(before, torch.random.get_rng_state())


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(UnsupportedInput, match="torchvision/resnet18") as caught:
        build_backbone(card(architecture="torchvision/resnet-18"))
    assert caught.value.problem.code == "unknown_architecture"


def test_a_name_of_the_other_library_is_suggested() -> None:
    with pytest.raises(UnsupportedInput, match="timm/vit_small_patch16_224"):
        build_backbone(card(architecture="torchvision/vit_small_patch16_224"))


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("timm/ViT-B-32", "open_clip/ViT-B-32"), ("timm/clip_vision_model", "transformers/clip_vision_model")],
)
def test_every_family_of_names_is_said_and_searched(wrong: str, near: str) -> None:
    with pytest.raises(UnsupportedInput) as caught:
        build_backbone(card(architecture=wrong))
    expected = caught.value.problem.expected
    assert all(f"{family}/<" in expected for family in ("torchvision", "timm", "transformers", "open_clip"))
    assert near in expected


@pytest.mark.parametrize(
    ("overrides", "code"),
    [
        ({"convv1": "identity"}, "unknown_module"),
        ({"bn1": {"stride": 2}}, "override_not_a_convolution"),
    ],
)
def test_an_override_must_fit_the_network(overrides: dict[str, Any], code: str) -> None:
    with pytest.raises(UnsupportedInput) as caught:
        build_backbone(card(architecture="torchvision/resnet18", overrides=overrides), device="meta")
    assert caught.value.problem.code == code
    assert caught.value.problem.field.startswith("card.overrides.")


def test_an_impossible_input_size_is_a_problem_and_no_traceback() -> None:
    with pytest.raises(UnsupportedInput) as caught:
        build_backbone(card(architecture="torchvision/vit_b_16", input_size=[32, 64]), device="meta")
    assert caught.value.problem.code == "architecture_not_built"


def test_a_constructor_that_needs_real_tensors_ends_on_meta_all_the_same() -> None:
    backbone = build_backbone(card(architecture="torchvision/regnet_x_400mf"), device="meta")
    assert {parameter.device.type for parameter in backbone.parameters()} == {"meta"}


@pytest.mark.parametrize("name", ["torchvision/resnet18", "torchvision/shufflenet_v2_x0_5", "timm/test_vit"])
def test_the_index_of_shapes_agrees_with_the_networks(name: str) -> None:
    exact, loose = architectures_by_fingerprint()
    first, second, _ = index_row(name)
    assert name in exact[first]
    assert name in loose[second]


def test_the_index_knows_every_torchvision_network() -> None:
    exact, _ = architectures_by_fingerprint()
    indexed = {name for names in exact.values() for name in names}
    assert {name for name in known_architectures() if name.startswith("torchvision/")} <= indexed


def test_default_preprocessing_is_the_librarys() -> None:
    assert default_card("timm/vit_small_patch16_224").mean == (0.5, 0.5, 0.5)
    assert default_card("torchvision/resnet18").image_size == (224, 224)
