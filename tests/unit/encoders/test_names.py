"""Names as training code and other authors write them, against the features of the network they belong to."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from core.encoders.load import LoadedEncoder, load_encoder
from core.encoders.write import write_encoder
from core.errors import UnsupportedInput
from tests.unit.encoders.weights import CARD

SIDE = 28
IMAGES = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
State = dict[str, Tensor]


def small(name: str, **options: Any) -> nn.Module:
    """A real architecture of timm with random weights, no two alike."""
    torch.manual_seed(2)
    network: nn.Module = timm.create_model(name, num_classes=0, **options).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return network


def card(architecture: str) -> dict[str, Any]:
    return {**CARD, "architecture": f"timm/{architecture}", "input_size": SIDE}


@torch.no_grad()
def same(loaded: LoadedEncoder, network: nn.Module) -> bool:
    mean, std = (torch.tensor(loaded.card.model_dump()[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    return torch.allclose(loaded.encoder(IMAGES), network((IMAGES - mean) / std), atol=1e-4)


DINOV2 = "vit_small_patch14_dinov2"


@pytest.fixture(scope="module")
def dinov2() -> nn.Module:
    return small(DINOV2, img_size=SIDE)


def fsdp(name: str) -> str:
    return "_fsdp_wrapped_module." + re.sub(r"^(blocks\.\d+)\.", r"\1._fsdp_wrapped_module.", name)


def checkpointed(name: str) -> str:
    return re.sub(r"^(blocks\.\d+)\.", r"\1._orig_mod._checkpoint_wrapped_module.", name)


def chunked(name: str) -> str:
    return re.sub(r"^blocks\.(\d+)\.", r"teacher.backbone.blocks.0.\1.", name)


@pytest.mark.parametrize("rename", [fsdp, checkpointed, chunked])
def test_words_inside_names_come_back_as_they_were(
    tmp_path: Path, dinov2: nn.Module, rename: Callable[[str], str]
) -> None:
    path, output = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    extra = {"mask_token": torch.zeros(1, 384), "decoder_blocks.0.norm1.weight": torch.ones(8)}
    prefix = rename("cls_token").removesuffix("cls_token")
    if rename is chunked:
        prefix = "teacher.backbone."
    names = {key: name if (name := rename(key)).startswith(prefix) else prefix + name for key in dinov2.state_dict()}
    state = {names[key]: value for key, value in dinov2.state_dict().items()}
    save_file(state | {prefix + key: value for key, value in extra.items()}, path)
    loaded = load_encoder(path, card=card(DINOV2))
    assert same(loaded, dinov2)
    assert {*loaded.dropped} == {prefix + key for key in extra}
    write_encoder(loaded, loaded.encoder, output)
    again = load_encoder(output)
    assert same(again, dinov2)
    assert {".".join(p) for p in again.source.tensors} == {*state, *(prefix + key for key in extra)}


def test_positions_of_another_size_are_resampled_and_said(tmp_path: Path, dinov2: nn.Module) -> None:
    path, output = tmp_path / "hub.safetensors", tmp_path / "out.safetensors"
    large = torch.randn(1, 1 + 5 * 5, 384)
    state = dinov2.state_dict()
    save_file({**state, "pos_embed": large, "mask_token": torch.zeros(1, 384)}, path)
    loaded = load_encoder(path, card=card(DINOV2))
    resampled = small(DINOV2, img_size=SIDE)
    resampled.load_state_dict({**state, "pos_embed": resample_abs_pos_embed(large, (2, 2))})
    assert same(loaded, resampled)
    assert any("made for 70x70 pixels and resampled" in sentence for sentence in loaded.reading.assumptions)
    assert loaded.dropped == ("mask_token",)
    write_encoder(loaded, loaded.encoder, output)
    assert same(load_encoder(output), resampled)


def test_registers_of_dinov2(tmp_path: Path) -> None:
    path = tmp_path / "reg.safetensors"
    network = small("vit_small_patch14_reg4_dinov2", img_size=SIDE)
    state = network.state_dict()
    registers, positions = state.pop("reg_token"), state.pop("pos_embed")
    first = torch.full((1, 1, 384), 0.25)
    state |= {"register_tokens": registers, "pos_embed": torch.cat([first, positions], 1)}
    state |= {"cls_token": state["cls_token"] - first, "mask_token": torch.zeros(1, 384)}
    save_file(state, path)
    assert same(load_encoder(path, card=card("vit_small_patch14_reg4_dinov2")), network)


def test_openais_names_of_clip(tmp_path: Path) -> None:
    path, output = tmp_path / "clip.safetensors", tmp_path / "out.safetensors"
    network = small(CLIP, img_size=SIDE)
    save_file({**openai_names(network.state_dict()), "logit_scale": torch.tensor(4.6)}, path)
    loaded = load_encoder(path, card=card(CLIP))
    assert same(loaded, network)
    write_encoder(loaded, loaded.encoder, output)
    assert same(load_encoder(output), network)


CLIP = "vit_xsmall_patch16_clip_224"


def openai_names(state: State) -> State:
    """timm's names back into those of OpenAI's release."""
    swaps = [("patch_embed.proj", "conv1"), ("blocks.", "transformer.resblocks."), ("norm_pre", "ln_pre")]
    swaps += [("norm1", "ln_1"), ("norm2", "ln_2"), ("attn.qkv.", "attn.in_proj_"), ("attn.proj", "attn.out_proj")]
    swaps += [("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")]
    renamed: State = {}
    for key, value in state.items():
        for old, new in swaps:
            key = key.replace(old, new)
        if key.startswith("norm."):
            key = key.replace("norm.", "ln_post.")
        key = {"cls_token": "class_embedding", "pos_embed": "positional_embedding"}.get(key, key)
        renamed[f"visual.{key}"] = value.squeeze(0) if "embedding" in key else value
    renamed["visual.class_embedding"] = state["cls_token"].squeeze()
    return {key: value.contiguous() for key, value in renamed.items()}


def test_what_timm_cannot_translate_is_still_a_mismatch(tmp_path: Path, dinov2: nn.Module) -> None:
    path = tmp_path / "cut.safetensors"
    state = dinov2.state_dict()
    del state["blocks.3.attn.qkv.weight"]
    save_file({**state, "mask_token": torch.zeros(1, 384)}, path)
    with pytest.raises(UnsupportedInput, match=r"1 missing: blocks\.3\.attn\.qkv\.weight"):
        load_encoder(path, card=card(DINOV2))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bit_floats(tmp_path: Path, dinov2: nn.Module, dtype: torch.dtype) -> None:
    path, output = tmp_path / "eight.safetensors", tmp_path / "out.safetensors"
    coarse = {key: value.to(dtype) for key, value in dinov2.state_dict().items()}
    save_file(coarse, path)
    loaded = load_encoder(path, card=card(DINOV2))
    weights = loaded.encoder.backbone.state_dict()
    assert all(torch.equal(weights[key], value.float()) for key, value in coarse.items())
    write_encoder(loaded, loaded.encoder, output)
    assert {tensor.dtype for tensor in load_encoder(output).source.tensors.values()} == {dtype}
