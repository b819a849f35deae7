"""Every torchvision network ends in one pooled vector, and is read as the library's own weights are used."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from core.encoders.architectures import build_backbone, default_preprocessing
from core.encoders.card import EncoderCard
from core.encoders.load import load_encoder

SMALLEST = {
    "alexnet": (64, 256),
    "convnext_tiny": (32, 768),
    "densenet121": (32, 1024),
    "efficientnet_b0": (32, 1280),
    "googlenet": (32, 1024),
    "inception_v3": (96, 2048),
    "maxvit_t": (224, 512),
    "mnasnet0_5": (32, 1280),
    "mobilenet_v2": (32, 1280),
    "mobilenet_v3_small": (32, 576),
    "regnet_y_400mf": (32, 440),
    "resnet18": (32, 512),
    "shufflenet_v2_x0_5": (32, 1024),
    "squeezenet1_1": (32, 512),
    "swin_t": (32, 768),
    "vgg11": (32, 512),
    "vit_b_16": (32, 768),
}
"""The cheapest network of each family, with a side in pixels that it takes and the length of its feature."""


def card(name: str, side: int) -> EncoderCard:
    _, mean, std = default_preprocessing(f"torchvision/{name}")
    return EncoderCard(architecture=f"torchvision/{name}", input_size=side, mean=mean, std=std)


def test_every_family_is_among_them() -> None:
    families = {name.split("_")[0].rstrip("0123456789") for name in SMALLEST} | {"resnext", "wide"}
    known = torchvision.models.list_models(module=torchvision.models)
    assert [name for name in known if not any(name.startswith(family) for family in families)] == []


@pytest.mark.parametrize("name", SMALLEST)
def test_it_ends_in_a_vector(name: str) -> None:
    side, length = SMALLEST[name]
    with torch.no_grad():
        features = build_backbone(card(name, side))(torch.rand(1, 3, side, side))
    assert features.shape == (1, length)


@pytest.mark.parametrize("name", ["convnext_tiny", "squeezenet1_1", "mnasnet0_5"])
def test_a_file_of_the_library_loads_with_its_own_features(name: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    network = torchvision.models.get_model(name, weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "w.pt")
    side, _ = SMALLEST[name]
    loaded = load_encoder(tmp_path / "w.pt", card=card(name, side).to_json())
    seen: list[torch.Tensor] = []
    # What the library's own network hands to its last layer, or pools before it.
    last = {"convnext_tiny": "classifier.2", "squeezenet1_1": "classifier", "mnasnet0_5": "classifier"}[name]
    network.get_submodule(last).register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    images = torch.rand(2, 3, side, side)
    with torch.no_grad():
        features = loaded.encoder(images)
        network((images - loaded.encoder.mean) / loaded.encoder.std)
    expected = seen[0].mean((2, 3)) if seen[0].ndim == 4 else seen[0]
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_the_published_weights_own_normalisation_is_not_lost(name: str) -> None:
    """The builders set ``transform_input`` with weights; users hand such a network ImageNet-normalised images."""
    options = {"transform_input": True, "aux_logits": False, "init_weights": False}
    network = torchvision.models.get_model(name, weights=None, **options).eval()
    network.fc = nn.Identity()
    side, _ = SMALLEST[name]
    backbone = build_backbone(card(name, side))
    backbone.load_state_dict(network.state_dict())
    _, mean, std = default_preprocessing(f"torchvision/{name}")
    images = torch.rand(2, 3, side, side)
    imagenet = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    centre, spread = imagenet
    ours = (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(backbone(ours), network((images - centre) / spread), rtol=1e-4, atol=1e-4)
