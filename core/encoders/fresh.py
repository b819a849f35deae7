"""An untrained encoder from a card: where every training of our own begins."""

from __future__ import annotations

import torch

from core.encoders.architectures import build_backbone
from core.encoders.card import EncoderCard
from core.random import derive_seed
from core.types import Encoder


def fresh_encoder(card: EncoderCard, *, seed: int, name: str = "encoder") -> Encoder:
    """The card's network with the initial weights of its library, which follow from ``seed``; in eval mode.

    Raises:
        UnsupportedInput: no such architecture, an override that does not fit it, or a wrong ``feature_dim``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, "initial weights"))
        backbone = build_backbone(card)
    height, width = card.image_size
    with torch.no_grad():
        feature_dim = backbone(torch.zeros(1, 3, height, width)).shape[1]
    return Encoder(
        backbone,
        name=name,
        image_size=card.image_size,
        feature_dim=feature_dim,
        mean=card.mean,
        std=card.std,
        architecture=card.architecture,
    )
