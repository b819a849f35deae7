"""EfficientNets by the names of ``efficientnet_pytorch``, against timm's networks of the same weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from core.encoders.efficientnet_names import renamed
from core.encoders.load import LoadedEncoder, load_encoder
from core.encoders.write import write_encoder
from core.errors import UnsupportedInput

SIDE = 64
IMAGES = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
LITE, SQUEEZED = "tf_efficientnet_lite0", "tf_efficientnet_b0"
BLOCKS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks per stage of both, as the paper has them."""


def network_of(name: str) -> nn.Module:
    """The network with random weights and statistics, no two tensors alike."""
    torch.manual_seed(2)
    network: nn.Module = timm.create_model(name).eval()
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if key.endswith(("running_var", "running_mean")) or (tensor.ndim == 1 and tensor.is_floating_point()):
                tensor.add_(0.2 * torch.rand_like(tensor))
    return network


def by_the_package(name: str, prefix: str = "") -> dict[str, Tensor]:
    """The network's weights as ``efficientnet_pytorch`` names them."""
    outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    plain = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    expanded = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
    expanded |= {"conv_pwl": "_project_conv", "bn3": "_bn2"}
    squeeze = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
    state = {}
    for key, tensor in network_of(name).state_dict().items():
        if match := re.fullmatch(r"blocks\.(\d+)\.(\d+)\.((?:se\.)?\w+)\.(\w+)", key):
            stage, block = int(match[1]), int(match[2])
            layers = (plain if stage == 0 else expanded) | squeeze
            number = sum(BLOCKS[:stage]) + block
            key = f"_blocks.{number}.{layers[match[3]]}.{match[4]}"
        else:
            top, _, rest = key.partition(".")
            key = f"{outside[top]}.{rest}"
        state[prefix + key] = tensor
    return state


def card(architecture: str) -> dict[str, Any]:
    pixels = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    return {"format": "encoder-card/1", "architecture": f"timm/{architecture}", "input_size": SIDE, **pixels}


@torch.no_grad()
def same(loaded: LoadedEncoder, name: str) -> bool:
    network = network_of(name)
    network.reset_classifier(0)  # type: ignore[operator]
    features: Tensor = network((IMAGES - 0.5) / 0.5)
    return torch.allclose(loaded.encoder(IMAGES), features, atol=1e-4 * float(features.abs().max()))


@pytest.mark.parametrize("name", [LITE, SQUEEZED])
@pytest.mark.parametrize("prefix", ["", "module.encoder."])
def test_features_are_timms_and_a_copy_has_the_files_names(tmp_path: Path, name: str, prefix: str) -> None:
    path, output = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    state = by_the_package(name, prefix)
    save_file(state, path)
    loaded = load_encoder(path, card=card(name))
    assert same(loaded, name)
    assert {*loaded.dropped} == {f"{prefix}_fc.weight", f"{prefix}_fc.bias"}
    assert not any("Not part of the encoder" in sentence for sentence in loaded.reading.assumptions)
    write_encoder(loaded, loaded.encoder, output)
    again = load_encoder(output)
    assert same(again, name)
    assert {".".join(path) for path in again.source.tensors} == {*state}


def test_the_names_tell_the_padding_and_so_the_network(tmp_path: Path) -> None:
    path = tmp_path / "lite.safetensors"
    save_file(by_the_package(LITE), path)
    loaded = load_encoder(path)
    assert (loaded.card.architecture, loaded.card.image_size) == (f"timm/{LITE}", (224, 224))
    assert loaded.card.mean == loaded.card.std == (0.5, 0.5, 0.5)
    assert "as its published weights in timm use them" in loaded.reading.assumptions[0]


def test_where_published_weights_want_several_pixels_a_card_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "b0.safetensors"
    save_file(by_the_package(SQUEEZED), path)
    with pytest.raises(UnsupportedInput, match=f"fit 2 readings.*{SQUEEZED}.*{SQUEEZED}") as caught:
        load_encoder(path)
    assert "timm/efficientnet_b0" not in str(caught.value)


@pytest.mark.parametrize(
    "shapes",
    [
        {"conv_stem.weight": (32, 3, 3, 3)},
        {"_conv_stem.weight": (32, 3, 3, 3)},
        {"_conv_stem.weight": (32, 3, 3, 3), "_blocks.0._project_conv.weight": ()},
        {"_conv_stem.weight": (4,), "conv_stem.weight": (4,), "_blocks.0._project_conv.weight": (4,)},
    ],
)
def test_other_files_are_left_alone(shapes: dict[str, tuple[int, ...]]) -> None:
    assert renamed(shapes) is None


def test_strange_blocks_keep_their_names() -> None:
    stage = {"_conv_stem.weight": (4,), "_blocks.0._project_conv.weight": (8,), "_blocks.1._project_conv.weight": (8,)}
    names = renamed(stage | {"_blocks.7._bn1.weight": (8,), "_blocks.1._new.weight": (8,), "x": (1,)})
    assert names == {
        "_conv_stem.weight": "conv_stem.weight",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
        "_blocks.1._project_conv.weight": "blocks.0.1.conv_pw.weight",
        "_blocks.7._bn1.weight": "_blocks.7._bn1.weight",
        "_blocks.1._new.weight": "_blocks.1._new.weight",
        "x": "x",
    }
