"""Files with the names of their authors load as timm itself would load them, and are written back under these names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor

from core.encoders.load import load_encoder
from core.encoders.parts import Part, Places, put, take
from core.encoders.write import write_encoder

State = dict[str, Tensor]
PIXELS = torch.rand(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))


def random_state(name: str, **options: Any) -> State:
    """Weights of ``timm/name`` in which no two tensors are alike."""
    numbers = torch.Generator().manual_seed(1)
    shapes = timm.create_model(name, num_classes=0, **options).state_dict()
    return {
        key: torch.randn(value.shape, generator=numbers) * 0.05 + (value.ndim == 1) for key, value in shapes.items()
    }


def dinov2(state: State) -> State:
    return {**state, "mask_token": torch.ones(1, state["cls_token"].shape[2])}


def dinov2_with_registers(state: State) -> State:
    named = {key.replace("reg_token", "register_tokens"): value for key, value in state.items()}
    first = torch.full_like(named["cls_token"], 0.3)
    return dinov2(
        {**named, "cls_token": named["cls_token"] - first, "pos_embed": torch.cat([first, named["pos_embed"]], 1)}
    )


def clip(state: State) -> State:
    swaps = {
        "patch_embed.proj": "conv1",
        "pos_embed": "positional_embedding",
        "cls_token": "class_embedding",
        "attn.qkv.": "attn.in_proj_",
        "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "norm_pre": "ln_pre",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "blocks.": "transformer.resblocks.",
    }
    named: State = {}
    for key, value in state.items():
        new = key.replace("norm.", "ln_post.") if key.startswith("norm.") else key
        for ours, theirs in swaps.items():
            new = new.replace(ours, theirs)
        lesser = {"cls_token": value.flatten(), "pos_embed": value[0]}.get(key, value)
        named[f"visual.{new}"] = lesser.contiguous()
    width = state["cls_token"].shape[2]
    return {**named, "visual.proj": torch.ones(width, 8), "logit_scale": torch.ones(()), "text.weight": torch.ones(3)}


def mae(state: State) -> State:
    width = state["cls_token"].shape[2]
    extra = {"mask_token": (1, 1, 8), "decoder_pos_embed": (1, 17, 8), "decoder_embed.weight": (8, width)}
    return {**state, **{key: torch.ones(shape) for key, shape in extra.items()}}


CASES: Mapping[str, tuple[str, dict[str, Any], Callable[[State], State]]] = {
    "DINOv2 at another size": ("vit_small_patch14_dinov2", {"img_size": 98}, dinov2),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 98}, dinov2_with_registers),
    "DINO at another size": ("vit_tiny_patch16_224", {"img_size": 96}, dict),
    "CLIP": ("vit_xsmall_patch16_clip_224", {"img_size": 48}, clip),
    "CLIP at another size": ("vit_xsmall_patch16_clip_224", {"img_size": 96}, clip),
    "MAE": ("vit_tiny_patch16_224", {"img_size": 48}, mae),
}


@pytest.mark.parametrize("case", CASES)
def test_features_are_timms_own_and_the_names_stay(case: str, tmp_path: Path) -> None:
    name, options, renamed = CASES[case]
    side = 56 if "patch14" in name else 48
    given = renamed(random_state(name, **options))
    save_file(given, tmp_path / "in.safetensors")
    card = {"architecture": f"timm/{name}", "input_size": side, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    loaded = load_encoder(tmp_path / "in.safetensors", card=card)

    oracle = timm.create_model(name, num_classes=0, img_size=side).eval()
    oracle.load_state_dict(checkpoint_filter_fn(dict(given), oracle), strict=False)
    pixels = PIXELS[:, :, :side, :side]
    with torch.no_grad():
        torch.testing.assert_close(loaded.encoder(pixels), oracle((pixels - 0.5) / 0.2), atol=1e-4, rtol=1e-4)

        before = loaded.encoder(pixels)
        for weight in loaded.encoder.backbone.parameters():
            weight.mul_(1.25)
        changed = loaded.encoder(pixels)
    write_encoder(loaded, loaded.encoder, tmp_path / "out.safetensors")
    written = load_file(tmp_path / "out.safetensors")
    assert {key: value.shape for key, value in written.items()} == {key: value.shape for key, value in given.items()}
    for untouched in {"mask_token", "visual.proj", "logit_scale", "text.weight", "decoder_embed.weight"} & given.keys():
        assert torch.equal(written[untouched], given[untouched])
    again = load_encoder(tmp_path / "out.safetensors").encoder(pixels)
    torch.testing.assert_close(again, changed, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(again, before, atol=1e-3)


def test_a_part_is_found_taken_and_put_back() -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    places = Places({("a",): torch.zeros(3), ("b",): whole})
    part = places.find(whole[1:3].T)
    assert part == Part(("b",), (6, 2), (1, 6), 6)
    assert torch.equal(take(whole, part), whole[1:3].T)
    changed = put(whole, part, torch.full((6, 2), -1.0))
    assert torch.equal(changed[1:3], torch.full((2, 6), -1.0))
    assert torch.equal(changed[[0, 3]], whole[[0, 3]])
    assert places.find(whole[1:3] + 1) is None


def test_a_constant_on_top_is_taken_off_again() -> None:
    whole = torch.tensor([1.0, 2.0])
    part = Part(("a",), (2,), (1,), 0, added=torch.tensor([10.0, 20.0]))
    assert torch.equal(take(whole, part), torch.tensor([11.0, 22.0]))
    assert torch.equal(put(whole, part, torch.tensor([12.0, 24.0])), torch.tensor([2.0, 4.0]))
