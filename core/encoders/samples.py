"""Sample cards that load when they are followed to the letter: sizes and kernels that the file shows are filled in.

Each is tried on the network itself before anybody sees it: names and shapes must be those of the file, and an image of
the card's size must pass through.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from core.encoders.architectures import build_backbone, shapes_of
from core.encoders.card import EncoderCard, parse_card
from core.encoders.placement import Shape, is_head
from core.encoders.shape_index import default_card
from core.errors import AuditError, UnsupportedInput

_SIDES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 384)
_TRIED = 12


def variants(
    architectures: Sequence[str], shapes: Mapping[str, Shape], *, without_max_pool: bool = False
) -> Iterator[EncoderCard]:
    """Cards of ``architectures`` changed as little as may be so that they have ``shapes`` (names relative to the
    encoder's prefix). ``without_max_pool``: the file shows that a ResNet's max-pool was taken out."""
    fitting = []
    for architecture in sorted(architectures, key=lambda name: _unlikely(name, shapes))[:_TRIED]:
        try:
            card = _variant(architecture, shapes, without_max_pool)
        except AuditError:
            continue
        if card is not None and fits(card, shapes):
            fitting.append(card)
    least = min((len(card.overrides) for card in fitting), default=0)
    yield from (card for card in fitting if len(card.overrides) == least)


def at_size(card: EncoderCard, side: int) -> EncoderCard:
    """``card`` for images of ``side`` pixels, or of the next usual size that its network takes."""
    for each in (side, *(other for other in _SIDES if other > side)):
        smaller = card.model_copy(update={"input_size": each})
        if takes_its_size(smaller):
            return smaller
    return card


def fits(card: EncoderCard, shapes: Mapping[str, Shape]) -> bool:
    """Whether the card's network has these names and shapes, heads and batch counters aside, and takes its images."""
    try:
        expected = shapes_of(build_backbone(card, device="meta"))
    except UnsupportedInput:
        return False
    return _body(expected) == _body(shapes) and takes_its_size(card)


def takes_its_size(card: EncoderCard) -> bool:
    """Whether an image of the card's size passes through its network; nothing is computed."""
    try:
        backbone = build_backbone(card, device="meta")
        with torch.no_grad():
            backbone(torch.empty(1, 3, *card.image_size, device="meta"))
    except (UnsupportedInput, RuntimeError, AssertionError, ValueError, TypeError, IndexError):
        return False
    return True


def _body(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    return {
        name: tuple(shape)
        for name, shape in shapes.items()
        if not is_head(name) and not name.endswith("num_batches_tracked")
    }


def _unlikely(architecture: str, shapes: Mapping[str, Shape]) -> tuple[bool, bool, int]:
    """Torchvision's before timm's, those whose name bears the file's own patch before others, short names first."""
    patch = next((shape[2] for shape in shapes.values() if len(shape) == 4 and shape[1] == 3), 0)
    own_patch = any(f"{word}{patch}" in architecture for word in ("patch", "_p", "b_", "l_", "h_"))
    return not architecture.startswith("torchvision/"), not own_patch, len(architecture)


def _variant(architecture: str, shapes: Mapping[str, Shape], without_max_pool: bool) -> EncoderCard | None:
    default = default_card(architecture)
    backbone = build_backbone(default, device="meta")
    values: dict[str, Any] = default.to_json()
    overrides: dict[str, Any] = {}
    patch = None
    for name, theirs in shapes_of(backbone).items():
        mine = shapes.get(name)
        if mine is None or len(mine) != 4 or mine[1] != 3 or len(theirs) != 4:
            continue
        path = name.removesuffix(".weight")
        first = backbone.get_submodule(path)
        if not isinstance(first, nn.Conv2d):
            continue
        patch = mine[2]
        if mine == theirs:
            continue
        overrides[path] = _stem(first, (mine[2], mine[3]))
    if without_max_pool or ("conv1" in overrides and max(overrides["conv1"]["kernel_size"]) < 7):
        overrides["maxpool"] = "identity"
    side = _side(shapes, shapes_of(backbone), default.image_size[0], patch, backbone)
    if side is not None:
        values["input_size"] = side
    elif overrides:
        values["input_size"] = 32
    if overrides:
        values["overrides"] = overrides
    return parse_card(values)


def _stem(first: nn.Conv2d, kernel: tuple[int, int]) -> dict[str, Any]:
    if first.stride == first.kernel_size:  # patches lie side by side
        return {"kernel_size": list(kernel), "stride": list(kernel)}
    return {"kernel_size": list(kernel), "stride": [1, 1], "padding": [side // 2 for side in kernel]}


def _side(
    mine: Mapping[str, Shape], theirs: Mapping[str, Shape], default_side: int, patch: int | None, backbone: nn.Module
) -> int | None:
    """The input size that the position embeddings show, None where there are none."""
    name = next((n for n in theirs if n.rpartition(".")[2] in ("pos_embed", "pos_embedding") and n in mine), None)
    if name is None or patch is None:
        return None
    if len(mine[name]) == 4:
        return mine[name][1] * patch
    own_patch = next(m.kernel_size[0] for m in backbone.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3)
    prefix = theirs[name][-2] - (default_side // int(own_patch)) ** 2
    grid = math.isqrt(max(0, mine[name][-2] - prefix))
    return grid * patch if grid * grid == mine[name][-2] - prefix else None
