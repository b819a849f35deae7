"""What an error says of a file that fits nothing, or not the card that was given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core.encoders.card import parse_card
from core.encoders.infer import infer_card
from core.encoders.load import load_encoder
from core.encoders.nearest import nearest_in_words
from core.encoders.shape_index import nearest_architectures
from core.errors import UnsupportedInput
from tests.unit.encoders.test_infer import torchvision_shapes
from tests.unit.encoders.weights import CARD, RESNET_CARD, random_state


def test_a_network_with_a_layer_more_is_near_its_own() -> None:
    shapes = {name[0]: shape for name, shape in torchvision_shapes("resnet34").items()}
    assert nearest_architectures(shapes)[0][1] == 1.0
    shapes["layer5.0.conv1.weight"] = (7, 7, 3, 3)
    name, share = nearest_architectures(shapes)[0]
    assert name in ("torchvision/resnet34", "timm/resnet34")
    assert share >= 0.75


def test_names_of_no_known_library_are_shown_as_they_are() -> None:
    words = nearest_in_words({(f"stage{i}.mine.weight",): (2, 2) for i in range(20)})
    assert words.startswith("no known architecture comes near; the file's own names: stage0.mine.weight, ")
    assert words.endswith(" and 16 more")


def test_a_missing_card_names_what_is_near() -> None:
    shapes = {**torchvision_shapes("resnet18"), ("odd.weight",): (3, 3)}
    with pytest.raises(UnsupportedInput) as caught:
        infer_card(shapes)
    assert caught.value.problem.code == "missing_card"
    assert "A network of your own that is none of these cannot be described" in caught.value.problem.action
    assert "nearest by names and shapes: torchvision/resnet18" in caught.value.problem.found


def test_a_card_of_another_network_is_answered_with_one_that_fits(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(random_state(CARD), path)
    with pytest.raises(UnsupportedInput) as caught:
        load_encoder(path, card=RESNET_CARD)
    problem = caught.value.problem
    assert problem.code == "keys_do_not_match"
    assert "nearest by names and shapes: torchvision/shufflenet_v2_x0_5 (about 100 % in common)" in problem.found
    assert "the file's own names: " in problem.found
    sample = json.loads(problem.action.partition("the file: ")[2])
    assert parse_card(sample).architecture == CARD["architecture"]
    with torch.no_grad():
        assert load_encoder(path, card=sample).encoder(torch.rand(1, 3, 224, 224)).shape == (1, 1024)
