"""Files without the classifier of a network that normalises inside it: read without that layer, and said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision

from core.encoders.infer import infer_card
from core.encoders.load import load_encoder
from core.errors import UnsupportedInput


@pytest.mark.parametrize(
    ("name", "layer"),
    [("convnext_tiny", "classifier.0"), ("convnext_small", "classifier.0"), ("maxvit_t", "classifier.2")],
)
def test_the_absent_layer_is_left_out_and_said(name: str, layer: str) -> None:
    with torch.device("meta"):
        network = getattr(torchvision.models, name)()
    whole = {tuple(key.split(".")): tuple(value.shape) for key, value in network.state_dict().items()}
    assert infer_card(whole).card.overrides == {}
    inferred = infer_card({key: shape for key, shape in whole.items() if key[0] != "classifier"})
    assert inferred.card.overrides == {layer: "identity"}
    assert f"The file lacks {layer} of torchvision/{name}: the feature is the one without it." in inferred.assumptions


def test_a_stripped_file_gives_what_its_network_gives(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.convnext_tiny().eval()
    file = tmp_path / "stripped.pth"
    torch.save({key: value for key, value in network.state_dict().items() if not key.startswith("classifier")}, file)
    card = {"architecture": "torchvision/convnext_tiny", "input_size": 64, "mean": [0.0] * 3, "std": [1.0] * 3}
    with pytest.raises(UnsupportedInput, match=r"missing: classifier\.0\.weight") as caught:
        load_encoder(file, card=card)
    sample = json.loads(caught.value.problem.action.rpartition("fits the file: ")[2])
    loaded = load_encoder(file, card={**sample, "input_size": 64, "mean": [0.0] * 3, "std": [1.0] * 3})
    pixels = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded.encoder(pixels), network.avgpool(network.features(pixels)).flatten(1))
