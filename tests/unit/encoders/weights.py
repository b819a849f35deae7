"""Small networks and their state dicts, made on the spot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from core.encoders.architectures import build_backbone
from core.encoders.card import EncoderCard, parse_card

CARD: Mapping[str, Any] = {
    "format": "encoder-card/1",
    "architecture": "torchvision/shufflenet_v2_x0_5",
    "input_size": 32,
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.25],
}
RESNET_CARD: Mapping[str, Any] = {
    **CARD,
    "architecture": "torchvision/resnet18",
    "overrides": {"conv1": {"kernel_size": 3, "stride": 1, "padding": 1}, "maxpool": "identity"},
}


def random_state(card: Mapping[str, Any] = CARD, seed: int = 0) -> dict[str, Tensor]:
    """A state dict of the card's network; running means are drawn too, so that no two tensors are alike."""
    backbone = build_backbone(parse_card(card))
    numbers = torch.Generator().manual_seed(seed)
    return {
        key: value if not value.is_floating_point() else _like(key, value, numbers)
        for key, value in backbone.state_dict().items()
    }


def reference_features(card: Mapping[str, Any], state: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Features computed without the loader: the oracle."""
    parsed: EncoderCard = parse_card(card)
    backbone = build_backbone(parsed)
    backbone.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (parsed.mean, parsed.std))
    with torch.no_grad():
        features: Tensor = backbone((images - mean) / std)
    return features


def _like(key: str, value: Tensor, numbers: torch.Generator) -> Tensor:
    drawn = torch.rand(value.shape, generator=numbers)
    return drawn + 0.5 if key.endswith("running_var") or value.ndim == 1 else (drawn - 0.5) * 0.2
