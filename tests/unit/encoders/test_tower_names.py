"""Weights of the transformers library without their config.json: what they are is named, each way out works."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from core.encoders.load import load_encoder
from core.encoders.tower_names import kinds_of
from core.errors import UnsupportedInput
from tests.unit.encoders.folders import IMAGES, MODELS, expected, write

PIXELS = {"input_size": 32, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}


def named(name: str) -> str:
    """The ``model_type`` of a model that ``folders`` makes."""
    for word in ("_for_classes", "_whole", "_swiglu", "_for_masks"):
        name = name.removesuffix(word)
    return "clip_vision_model" if name == "clip_projected" else name


@pytest.mark.parametrize("name", MODELS)
def test_the_names_show_the_type_and_a_card_with_its_config_is_enough(name: str, tmp_path: Path) -> None:
    made = write(tmp_path, name)
    config = json.loads((tmp_path / "config.json").read_text())
    alone = (tmp_path / "model.safetensors").rename(tmp_path / "weights.safetensors")
    (tmp_path / "config.json").rename(tmp_path / "elsewhere.json")
    with pytest.raises(UnsupportedInput) as caught:
        load_encoder(alone)
    problem = caught.value.problem
    assert problem.code == "missing_config" and named(name) in problem.found
    kind = problem.action.partition("architecture transformers/")[2].partition(",")[0]
    if named(name) not in ("regnet", "vit_mae", "data2vec-vision"):  # others write the same names, and are named first
        assert kind == config["model_type"] or named(name) in ("clip", "siglip")
    else:
        kind = config["model_type"]
    loaded = load_encoder(alone, card={"architecture": f"transformers/{kind}", "config": config, **PIXELS})
    with torch.no_grad():
        torch.testing.assert_close(loaded.encoder(IMAGES), expected(made, name), rtol=1e-4, atol=1e-4)


def test_a_config_beside_weights_of_any_name_is_read(tmp_path: Path) -> None:
    made = write(tmp_path, "vit_for_classes")
    alone = (tmp_path / "model.safetensors").rename(tmp_path / "my-vit.safetensors")
    loaded = load_encoder(alone)
    assert "read by config.json" in loaded.reading.audited
    with torch.no_grad():
        torch.testing.assert_close(loaded.encoder(IMAGES), expected(made, "vit_for_classes"))


def test_a_card_without_pixels_says_what_it_took(tmp_path: Path) -> None:
    write(tmp_path, "vit")
    config = json.loads((tmp_path / "config.json").read_text())
    alone = (tmp_path / "model.safetensors").rename(tmp_path / "weights.safetensors")
    (tmp_path / "config.json").unlink()
    card = {"architecture": "transformers/vit", "config": config}
    alone.with_suffix(".card.json").write_text(json.dumps(card))
    for loaded in (load_encoder(alone, card=card), load_encoder(alone)):
        assert (loaded.card.image_size, loaded.card.mean) == ((32, 32), (0.5, 0.5, 0.5))
        assert any("mean and std .5" in said or "family is published" in said for said in loaded.reading.assumptions)


def test_a_card_of_another_library_is_answered_with_these_ways(tmp_path: Path) -> None:
    write(tmp_path, "dinov2")
    alone = (tmp_path / "model.safetensors").rename(tmp_path / "weights.safetensors")
    (tmp_path / "config.json").unlink()
    with pytest.raises(UnsupportedInput, match="architecture transformers/dinov2,") as caught:
        load_encoder(alone, card={"architecture": "torchvision/resnet18", **PIXELS})
    assert caught.value.problem.code == "keys_do_not_match"


def test_names_of_other_code_show_nothing() -> None:
    assert kinds_of(["conv1.weight", "layer1.0.conv1.weight", "blocks.0.attn.qkv.weight"]) == ()
