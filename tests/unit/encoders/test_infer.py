"""Reading a file without a card: what is taken and said, what is asked for, and samples that load as they stand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from core.encoders.architectures import build_backbone, shapes_of
from core.encoders.card import parse_card
from core.encoders.infer import InferredCard, infer_card
from core.encoders.load import load_encoder
from core.encoders.placement import search
from core.encoders.pretrained import CLIP, HALF, IMAGENET, completed, published_pixels
from core.encoders.size_of_images import require_size_like_images
from core.errors import UnsupportedInput
from tests.unit.encoders.weights import CARD, random_state

Shapes = dict[tuple[str, ...], tuple[int, ...]]


def of(model: nn.Module, prefix: str = "") -> Shapes:
    return {(prefix + name,): tuple(value.shape) for name, value in model.state_dict().items()}


def timm_shapes(name: str, prefix: str = "", **options: Any) -> Shapes:
    with torch.device("meta"):
        return of(timm.create_model(name, num_classes=0, **options), prefix)


def torchvision_shapes(name: str, prefix: str = "") -> Shapes:
    with torch.device("meta"):
        return of(torchvision.models.get_model(name, weights=None), prefix)


def refused(shapes: Mapping[tuple[str, ...], tuple[int, ...]]) -> tuple[UnsupportedInput, list[dict[str, Any]]]:
    """The refusal and its sample cards, the one that stands last first."""
    with pytest.raises(UnsupportedInput) as caught:
        infer_card(shapes)
    action = caught.value.problem.action
    decoder = json.JSONDecoder()
    cards, at = [], action.find("{")
    while at >= 0:
        card, length = decoder.raw_decode(action[at:])
        cards.append(card)
        at = action.find("{", at + length)
    return caught.value, cards[-1:] + cards[:-1]


def pixels(inferred: InferredCard) -> tuple[Any, Any]:
    return inferred.card.mean, inferred.card.std


def test_a_plain_resnet_is_taken_and_what_looks_the_same_is_named() -> None:
    inferred = infer_card(torchvision_shapes("resnet50"))
    assert inferred.card.architecture == "torchvision/resnet50"
    assert pixels(inferred) == IMAGENET
    assert inferred.size_assumed
    said = " ".join(inferred.assumptions)
    assert "timm/resnetaa50, timm/resnetblur50" in said
    assert "Nothing in the file shows the input size: 224x224" in said


def test_published_weights_that_want_other_pixels_are_named() -> None:
    said = infer_card(torchvision_shapes("resnet34")).assumptions
    assert said[-1] == (
        "Published weights of the same names and shapes want mean 0.5 0.5 0.5 and std 0.5 0.5 0.5: ra4_e3600_r224_in1k."
    )


def test_the_architecture_that_the_checkpoint_names_is_believed() -> None:
    inferred = infer_card(timm_shapes("resnetaa50"), {("arch",): "resnetaa50"})
    assert inferred.card.architecture == "timm/resnetaa50"
    assert "the file itself names resnetaa50" in inferred.assumptions[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_base_patch8_224", {("timm/vit_base_patch8_224", HALF), ("timm/vit_base_patch8_224", IMAGENET)}),
        ("vit_tiny_patch16_224", {("timm/vit_tiny_patch16_224", HALF), ("timm/deit_tiny_patch16_224", IMAGENET)}),
        ("convnext_base", {("timm/convnext_base", IMAGENET), ("timm/convnext_base", CLIP)}),
        (
            "vit_base_patch32_clip_224",
            {("timm/vit_base_patch32_clip_224", CLIP), ("timm/vit_base_patch32_clip_quickgelu_224", CLIP)},
        ),
        ("nest_tiny", {("timm/nest_tiny", IMAGENET), ("timm/nest_tiny_jx", IMAGENET)}),
    ],
)
def test_readings_with_other_features_are_asked_for(name: str, expected: set[tuple[str, Any]]) -> None:
    shapes = timm_shapes(name)
    error, cards = refused(shapes)
    assert error.problem.code == "ambiguous_architecture"
    assert {(c["architecture"], (tuple(c["mean"]), tuple(c["std"]))) for c in cards} >= expected
    for card in cards:
        assert search(shapes, shapes_of(build_backbone(parse_card(card), device="meta"))).placements


@pytest.mark.parametrize(
    ("shapes", "word"),
    [
        (
            {
                **timm_shapes("vit_base_patch8_224", "student.module.backbone."),
                **timm_shapes("vit_base_patch8_224", "teacher.backbone."),
            },
            "as DINO uses them",
        ),
        (
            {
                **timm_shapes("vit_small_patch16_224", "module.base_encoder."),
                **timm_shapes("vit_small_patch16_224", "module.momentum_encoder."),
            },
            "as MoCo v3 uses them",
        ),
    ],
    ids=["DINO", "MoCo v3"],
)
def test_the_wrapper_says_which_pixels_its_family_uses(shapes: Shapes, word: str) -> None:
    inferred = infer_card(shapes)
    assert pixels(inferred) == IMAGENET
    assert not inferred.size_assumed
    assert word in inferred.assumptions[0]
    assert any("Published weights of the same names and shapes want mean 0.5" in line for line in inferred.assumptions)


def small_stem(name: str, path: str, kernel: int) -> Shapes:
    """torchvision's network with another kernel in its first convolution."""
    shapes = torchvision_shapes(name)
    shapes[(path,)] = (*shapes[(path,)][:2], kernel, kernel)
    return shapes


def numbered(shapes: Shapes) -> Shapes:
    """A ResNet's children as nn.Sequential numbers them where the max-pool was left out."""
    numbers = {"conv1": "0", "bn1": "1", "layer1": "3", "layer2": "4", "layer3": "5", "layer4": "6"}
    split = {name[0]: name[0].partition(".") for name in shapes if not name[0].startswith("fc")}
    return {(f"f.{numbers[top]}.{rest}",): shapes[(name,)] for name, (top, _, rest) in split.items()}


VARIANTS: dict[str, tuple[Shapes, int, int | None]] = {
    "96 pixels": (timm_shapes("vit_tiny_patch16_224", img_size=96), 96, None),
    "128 pixels": (timm_shapes("vit_small_patch16_224", img_size=128), 128, None),
    "patch 4": (timm_shapes("vit_tiny_patch16_224", img_size=32, patch_size=4), 32, 4),
    "patch 8": (timm_shapes("vit_small_patch16_224", img_size=64, patch_size=8), 64, None),
    "patch 14": (timm_shapes("vit_small_patch16_224", img_size=224, patch_size=14), 224, 14),
    "distilled": (timm_shapes("deit_tiny_distilled_patch16_224", img_size=64), 64, None),
    "DINOv2 at 224": (timm_shapes("vit_small_patch14_dinov2", img_size=224), 224, None),
    "CIFAR ResNet-18": (small_stem("resnet18", "conv1.weight", 3), 32, 3),
    "CIFAR DenseNet": (small_stem("densenet121", "features.conv0.weight", 3), 32, 3),
    "numbered CIFAR ResNet": (numbered(small_stem("resnet18", "conv1.weight", 3)), 32, 3),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sample_card_loads_when_it_is_followed_to_the_letter(variant: str) -> None:
    shapes, side, kernel = VARIANTS[variant]
    _, cards = refused(shapes)
    for given in cards:
        card = parse_card(given)
        backbone = build_backbone(card, device="meta")
        assert search(shapes, shapes_of(backbone)).placements
        assert card.image_size == (side, side)
        assert {m.kernel_size for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3} == {
            (kernel, kernel) if kernel else next((s[2], s[3]) for s in shapes.values() if len(s) == 4 and s[1] == 3)
        }
        assert backbone(torch.empty(1, 3, side, side, device="meta")).ndim == 2


def test_a_sample_card_written_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "vit.safetensors"
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, patch_size=4, depth=12)
    save_file(model.state_dict(), path)
    with pytest.raises(UnsupportedInput) as caught:
        load_encoder(path)
    sample = caught.value.problem.action.partition("sample: ")[2]
    path.with_suffix(".card.json").write_text(sample)
    loaded = load_encoder(path)
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (loaded.card.mean, loaded.card.std))
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(loaded.encoder(images), model.eval()((images - mean) / std), atol=1e-4)


def test_images_far_smaller_than_an_assumed_size_ask_for_a_card(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_file(random_state(CARD), path)
    loaded = load_encoder(path)
    assert loaded.size_assumed
    require_size_like_images(loaded, (200, 180))
    with pytest.raises(UnsupportedInput) as caught:
        require_size_like_images(loaded, (32, 32))
    assert caught.value.problem.code == "ambiguous_architecture"
    assert "usual input size is 224 pixels, and images of 32x32 pixels" in caught.value.problem.found
    sample = json.loads(caught.value.problem.action.partition("sample: ")[2])
    again = load_encoder(path, card=sample)
    assert again.encoder.image_size == (32, 32)
    require_size_like_images(again, (32, 32))


def test_a_tag_of_published_weights_fills_in_the_card() -> None:
    card = parse_card(completed({"architecture": "timm/convnext_base.clip_laion2b"}))
    assert (card.input_size, card.mean, card.std) == (256, *CLIP)
    assert parse_card(completed({**CARD, "architecture": "timm/resnet10t.c3_in1k"})).mean == tuple(CARD["mean"])
    assert shapes_of(build_backbone(card, device="meta"))["stem.0.weight"] == (128, 3, 4, 4)
    with pytest.raises(UnsupportedInput) as caught:
        completed({"architecture": "timm/convnext_base.nonsense"})
    assert caught.value.problem.code == "unknown_architecture"
    assert "clip_laion2b" in caught.value.problem.expected


def test_the_registry_knows_who_wants_other_pixels() -> None:
    rows = {row.words: row for row in published_pixels("timm/vit_base_patch16_224")}
    assert rows["ImageNet's mean and std"].tags == ("dino", "mae")
    assert rows["CLIP's mean and std"].tags == ("bamboo",)
    assert "augreg_in21k" in rows["mean 0.5 0.5 0.5 and std 0.5 0.5 0.5"].tags
