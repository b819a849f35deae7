"""Do two architectures that share every name and shape compute the same? Their modules' attributes tell.

Strides, activation functions, anti-aliasing and the way of pooling leave no trace in a state dict. They do stand in the
modules: two networks, built at one input size, whose modules carry the same attributes are one network under two names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import nn

from core.encoders.architectures import build_backbone
from core.encoders.card import EncoderCard
from core.errors import UnsupportedInput

_PLAIN = (int, float, str, bool, tuple, torch.Size, type(None))


def alike(cards: Sequence[EncoderCard]) -> list[int]:
    """For each card the number of its group: cards of one group build networks that compute the same features.

    All are built, without memory, at the first card's input size. Networks of torchvision and timm are written by other
    people and so never alike here, save those that bear the same name.
    """
    prints: list[str] = []
    for card in cards:
        library, _, name = card.architecture.partition("/")
        twin = next((p for p, c in zip(prints, cards, strict=False) if _twins(c.architecture, library, name)), None)
        prints.append(twin or _attributes(card.model_copy(update={"input_size": cards[0].input_size})))
    order = list(dict.fromkeys(prints))
    return [order.index(each) for each in prints]


def _twins(other: str, library: str, name: str) -> bool:
    other_library, _, other_name = other.partition("/")
    return other_library != library and other_name == name


def _attributes(card: EncoderCard) -> str:
    try:
        backbone = build_backbone(card, device="meta")
    except UnsupportedInput:
        return card.architecture  # it takes no images of that size: it is a network of its own
    whole = hashlib.sha256()
    for name, module in backbone.named_modules():
        kept = [f"{key}={_word(value)}" for key, value in sorted(vars(module).items()) if _counts(key, value)]
        whole.update(";".join([name, type(module).__qualname__, *kept]).encode())
    return whole.hexdigest()


def _counts(key: str, value: object) -> bool:
    if key.startswith("_") or key in ("training", "pretrained_cfg", "default_cfg"):
        return False
    return isinstance(value, _PLAIN) or (callable(value) and not isinstance(value, nn.Module))


def _word(value: object) -> str:
    return str(value) if isinstance(value, _PLAIN) else getattr(value, "__qualname__", type(value).__name__)
