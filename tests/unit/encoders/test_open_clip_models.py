"""Towers of open_clip: features are those of the library's own encode_image, the text side survives purification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.encoders.clip_names import Tower, clip_cards, tower_of
from core.encoders.load import load_encoder
from core.encoders.write import write_encoder
from core.errors import UnsupportedInput, UsageError

open_clip = pytest.importorskip("open_clip")

TEXT = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16, "patch_size": None}
CONFIGS: dict[str, dict[str, Any]] = {
    "tiny-vit": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT},
    "tiny-vit-quickgelu": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VIT, "text_cfg": TEXT},
    "tiny-resnet": {"embed_dim": 24, "vision_cfg": RESNET, "text_cfg": TEXT},
}

TRUNKS: dict[str, dict[str, Any]] = {
    name: {"embed_dim": 16, "vision_cfg": {"image_size": 160, "timm_model_name": trunk, **how}, "text_cfg": TEXT}
    for name, trunk, how in (
        ("vit-in-timm", "test_vit", {"timm_pool": "token", "timm_proj": None}),
        ("convnext-in-timm", "test_convnext", {"timm_pool": "", "timm_proj": "linear"}),
        ("efficientnet-in-timm", "test_efficientnet", {"timm_pool": "avg", "timm_proj": "mlp"}),
    )
}

AS_TIMMS: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"width": 256, "layers": 10, "patch_size": 16},
    "text_cfg": TEXT,
}
"""The same tower as timm's smallest of CLIP's, ``vit_xsmall_patch16_clip_224``."""


@pytest.fixture(scope="module", autouse=True)
def tiny_configs(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("configs")
    for name, config in {**CONFIGS, **TRUNKS, "as-timms": AS_TIMMS}.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)


def whole(name: str) -> Any:
    torch.manual_seed(3)
    return open_clip.create_model(name, pretrained=None).eval()


def card(name: str, **fields: Any) -> dict[str, Any]:
    side = CONFIGS[name]["vision_cfg"]["image_size"]
    return {
        "architecture": f"open_clip/{name}",
        "input_size": side,
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
        **fields,
    }


def pictures(side: int) -> tuple[Tensor, Tensor]:
    """Pixels in [0, 1], and the same as the library normalises them."""
    pixels = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    mean, std = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
    )
    return pixels, (pixels - mean) / std


@pytest.mark.parametrize("name", CONFIGS)
def test_features_are_the_librarys_own(name: str, tmp_path: Path) -> None:
    model = whole(name)
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    loaded = load_encoder(tmp_path / "clip.safetensors", card=card(name))
    pixels, normalised = pictures(loaded.card.image_size[0])
    with torch.no_grad():
        expected = model.encode_image(normalised, normalize=False)
        torch.testing.assert_close(loaded.encoder(pixels), expected, atol=1e-4, rtol=1e-4)
    assert loaded.card.feature_dim == 24


def test_quickgelu_and_gelu_give_other_features_of_the_same_file(tmp_path: Path) -> None:
    save_file(whole("tiny-vit").state_dict(), tmp_path / "clip.safetensors")
    pixels, _ = pictures(32)
    one, other = (
        load_encoder(tmp_path / "clip.safetensors", card=card(name)).encoder(pixels)
        for name in ("tiny-vit", "tiny-vit-quickgelu")
    )
    assert not torch.allclose(one, other, atol=1e-4)


def test_without_the_projection(tmp_path: Path) -> None:
    model = whole("tiny-vit")
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    loaded = load_encoder(tmp_path / "clip.safetensors", card=card("tiny-vit", projection=False))
    pixels, normalised = pictures(32)
    with torch.no_grad():
        projected = loaded.encoder(pixels) @ model.visual.proj
        torch.testing.assert_close(projected, model.encode_image(normalised), atol=1e-4, rtol=1e-4)
    assert loaded.card.feature_dim == 32
    assert "projection False" in loaded.reading.audited


def test_a_projection_that_cannot_be_left_out(tmp_path: Path) -> None:
    save_file(whole("tiny-resnet").state_dict(), tmp_path / "clip.safetensors")
    with pytest.raises(UnsupportedInput) as caught:
        load_encoder(tmp_path / "clip.safetensors", card=card("tiny-resnet", projection=False))
    assert caught.value.problem.code == "no_projection"


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_the_purified_tower_goes_back_into_the_whole(suffix: str, tmp_path: Path) -> None:
    model = whole("tiny-vit-quickgelu")
    source = tmp_path / f"clip{suffix}"
    save_file(model.state_dict(), source) if suffix == ".safetensors" else torch.save(model.state_dict(), source)
    loaded = load_encoder(source, card=card("tiny-vit-quickgelu"))
    with torch.no_grad():
        for weight in loaded.encoder.backbone.parameters():
            weight.mul_(1.5)
    write_encoder(loaded, loaded.encoder, tmp_path / f"out{suffix}")
    out = tmp_path / f"out{suffix}"
    written = load_file(out) if suffix == ".safetensors" else torch.load(out, weights_only=True)
    fresh = whole("tiny-vit")
    fresh.load_state_dict(written, strict=True)
    for key, old in model.state_dict().items():
        factor = 1.5 if key.startswith("visual.") else 1.0
        torch.testing.assert_close(written[key], old * factor)


def test_a_file_of_these_names_is_asked_about_and_each_offered_card_loads(tmp_path: Path) -> None:
    save_file(whole("tiny-vit").state_dict(), tmp_path / "clip.safetensors")
    with pytest.raises(UnsupportedInput) as caught:
        load_encoder(tmp_path / "clip.safetensors")
    problem = caught.value.problem
    assert problem.code == "ambiguous_architecture"
    offered = [json.loads("{" + part.partition("}")[0] + "}") for part in problem.action.split("{")[1:]]
    assert {each["architecture"] for each in offered} == {"open_clip/tiny-vit", "open_clip/tiny-vit-quickgelu"}
    for each in offered:
        assert load_encoder(tmp_path / "clip.safetensors", card=each).card.image_size == (32, 32)


def test_published_sizes_are_offered_as_open_clip_and_as_timm_name_them(tmp_path: Path) -> None:
    tower = open_clip.model._build_vision_tower(16, open_clip.CLIPVisionCfg(**AS_TIMMS["vision_cfg"]))
    state = {f"visual.{name}": value for name, value in tower.state_dict().items()}
    cards = clip_cards({name: tuple(value.shape) for name, value in state.items()})
    assert [each.architecture for each in cards] == ["open_clip/as-timms", "timm/vit_xsmall_patch16_clip_224"]
    save_file(state, tmp_path / "clip.safetensors")
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        after, before = (
            load_encoder(tmp_path / "clip.safetensors", card=each.to_json()).encoder(images) for each in cards
        )
        torch.testing.assert_close(before @ tower.proj, after, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("vision", "embed_dim", "names"),
    [
        ({"patch_size": 32}, 512, ["ViT-B-32", "ViT-B-32-quickgelu", "vit_base_patch32_clip_224"]),
        ({"patch_size": 16}, 512, ["ViT-B-16", "ViT-B-16-quickgelu", "vit_base_patch16_clip_224"]),
        ({"layers": [3, 4, 6, 3], "width": 64}, 1024, ["RN50", "resnet50_clip"]),
    ],
)
def test_towers_of_openai(vision: dict[str, Any], embed_dim: int, names: list[str]) -> None:
    with torch.device("meta"):
        state = open_clip.model._build_vision_tower(embed_dim, open_clip.CLIPVisionCfg(**vision)).state_dict()
    shapes = {f"visual.{name}": tuple(value.shape) for name, value in state.items()}
    found = [each.architecture.partition("/")[2] for each in clip_cards(shapes)]
    assert found[: len(names)] == names
    openai = shapes | {"input_resolution": (), "context_length": (), "vocab_size": ()}
    assert clip_cards(openai)[0].architecture.endswith("quickgelu") is ("patch_size" in vision)


def test_what_shapes_show_of_a_tower() -> None:
    shapes = {name: tuple(value.shape) for name, value in whole("tiny-resnet").visual.state_dict().items()}
    assert tower_of(shapes) == Tower(8, (1, 1, 1, 1), None, 64, 24)
    assert tower_of({"conv1.weight": (64, 3, 7, 7)}) is None


def test_an_unknown_name_has_near_matches(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "clip.safetensors")
    wrong = {**card("tiny-vit"), "architecture": "open_clip/ViT-B-33"}
    with pytest.raises(UnsupportedInput) as caught:
        load_encoder(tmp_path / "clip.safetensors", card=wrong)
    assert caught.value.problem.code == "unknown_architecture"
    assert "open_clip/ViT-B-32" in caught.value.problem.expected


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from core.encoders import open_clip_models

    save_file({"a": torch.zeros(1)}, tmp_path / "clip.safetensors")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    open_clip_models._library.cache_clear()
    try:
        with pytest.raises(UsageError) as caught:
            load_encoder(tmp_path / "clip.safetensors", card=card("tiny-vit"))
    finally:
        open_clip_models._library.cache_clear()
    assert caught.value.problem.code == "missing_extra"
    assert "pip install '.[open-clip]'" in caught.value.problem.action


@pytest.mark.parametrize("name", TRUNKS)
def test_a_tower_of_timm_is_asked_for_its_projection_and_both_answers_load(name: str, tmp_path: Path) -> None:
    model = whole(name)
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    with pytest.raises(UnsupportedInput, match="after the projection") as caught:
        load_encoder(tmp_path / "clip.safetensors")
    assert caught.value.problem.code == "ambiguous_architecture"
    action = caught.value.problem.action
    after = json.loads(action.rpartition("of this sample: ")[2])
    before = json.loads(action.partition("other readings: ")[2].partition("; check each")[0])
    assert (after["architecture"], before["architecture"].partition("/")[0]) == (f"open_clip/{name}", "timm")
    pixels, normalised = pictures(160)
    loaded = load_encoder(tmp_path / "clip.safetensors", card=after)
    trunk = load_encoder(tmp_path / "clip.safetensors", card=before)
    with torch.no_grad():
        expected = model.encode_image(normalised, normalize=False)
        torch.testing.assert_close(loaded.encoder(pixels), expected, atol=1e-4, rtol=1e-4)
        if hasattr(model.visual.trunk, "forward_head"):
            own = model.visual.trunk.forward_head(model.visual.trunk.forward_features(normalised), pre_logits=True)
            torch.testing.assert_close(trunk.encoder(pixels), own.flatten(1), atol=1e-4, rtol=1e-4)


def test_a_tower_of_timm_without_a_projection_is_read(tmp_path: Path) -> None:
    state = {
        f"visual.trunk.{name}": tensor for name, tensor in whole("convnext-in-timm").visual.trunk.state_dict().items()
    }
    save_file({**state, "logit_scale": torch.ones(())}, tmp_path / "clip.safetensors")
    assert load_encoder(tmp_path / "clip.safetensors").card.architecture == "timm/test_convnext"
