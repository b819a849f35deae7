"""Files with the names of OpenAI's CLIP and of open_clip: the readings that fit, as filled-in cards.

Names and shapes show width, depth, patch and input size of the vision tower. They do not show whether it computes GELU
or QuickGELU, nor whether the feature is meant before or after the projection, so the user is asked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.encoders import open_clip_models
from core.encoders.architectures import build_backbone, default_preprocessing, known_architectures, shapes_of
from core.encoders.card import EncoderCard
from core.encoders.placement import Shape, views
from core.encoders.pretrained import CLIP
from core.encoders.shape_index import default_card
from core.errors import UnsupportedInput

_OF_OPENAI = ("input_resolution", "context_length", "vocab_size")
"""Numbers that only OpenAI's own files hold: their activation is QuickGELU."""


@dataclass(frozen=True)
class Tower:
    """What names and shapes show of a vision tower. ``depth`` is the number of blocks, per stage in a ResNet; ``sides``
    the input size in pixels; ``embed_dim`` the length of the projected feature, None where there is no projection."""

    width: int
    depth: int | tuple[int, ...]
    patch: int | None
    side: int
    embed_dim: int | None


def tower_of(shapes: Mapping[str, Shape]) -> Tower | None:
    """The tower whose tensors have these names (relative to ``visual.``) and shapes; None if it is none of CLIP's."""
    first = shapes.get("conv1.weight")
    if first is None or len(first) != 4:
        return None
    positions = shapes.get("positional_embedding", ())
    if len(positions) == 2 and "class_embedding" in shapes:
        side = _root(positions[0] - 1) * first[2]
        projection = shapes.get("proj", (0, None))
        return (
            Tower(first[0], _count(shapes, "transformer.resblocks."), first[2], side, projection[1]) if side else None
        )
    positions, output = shapes.get("attnpool.positional_embedding", ()), shapes.get("attnpool.c_proj.weight", ())
    if len(positions) == 2 and len(output) == 2:
        depth = tuple(_count(shapes, f"layer{stage}.") for stage in range(1, 5))
        return Tower(2 * first[0], depth, None, _root(positions[0] - 1) * 32, output[0])
    return None


def clip_cards(shapes: Mapping[str, Shape]) -> list[EncoderCard]:
    """A card for each way to read a file of CLIP's names (full names and shapes), the likeliest first; none for any
    other file. open_clip's networks are among them if the library is installed.

    Raises:
        UsageError: ``missing_extra``, the file is a CLIP's that open_clip alone may know, and it is not installed.
    """
    for view in views(shapes):
        if "conv1.weight" not in view.own:
            continue
        own = {name: shapes[full] for name, full in view.own.items()}
        if (tower := tower_of(own)) is None:
            continue
        quick_first = all(name in shapes for name in _OF_OPENAI)
        cards = list(_open_clip(tower, own)) if open_clip_models.is_installed() else []
        cards.sort(key=lambda card: ("quickgelu" in card.architecture) is not quick_first)
        if view.prefix.endswith("visual."):
            cards += _timm(tower)
        if not cards:
            open_clip_models.tower_configs()
        return cards
    return []


def question(cards: list[EncoderCard]) -> str:
    """What the file does not show, in words."""
    names = " and ".join(card.architecture for card in cards)
    return (
        f"the names and shapes of a CLIP vision tower, those of {names}; nothing in them shows GELU or QuickGELU, nor "
        "whether the feature is meant after the projection or before it (projection false; all of timm's)"
    )


def trunk_cards(shapes: Mapping[str, Shape], trunks: Iterable[str]) -> list[EncoderCard]:
    """A card for each way to read a file of open_clip's names whose tower is one of timm's networks ``trunks`` with a
    projection behind it: after the projection, if the library is installed, and before it. None for any other file."""
    for view in views(shapes):
        own = {name: shapes[full] for name, full in view.own.items()}
        if not view.prefix.endswith("visual.") or not any(name.startswith("trunk.") for name in own):
            continue
        behind = [name for name in own if name.startswith(("head.proj.", "head.mlp."))]
        for trunk in trunks:
            before = default_card(trunk).model_copy(update={"mean": CLIP[0], "std": CLIP[1]})
            expected = shapes_of(build_backbone(before, device="meta"))
            inside = (name.removeprefix("trunk.") for name in own if name.startswith("trunk."))
            if behind or any(name not in expected and name.endswith("weight") for name in inside):
                return [*_around(trunk, own), before]
    return []


def trunk_question(cards: list[EncoderCard]) -> str:
    """What such a file does not show, in words."""
    others = [card.architecture for card in cards if card.architecture.startswith("open_clip/")]
    after = (
        f"that is {' or '.join(others)}" if others else "that needs open_clip/<name> in a card, and the extra open-clip"
    )
    return (
        f"the vision tower of a model of images and texts, {cards[-1].architecture} with a projection behind it; "
        f"nothing shows whether the feature is meant after the projection ({after}) or before it"
    )


def _around(trunk: str, own: Mapping[str, Shape]) -> Iterator[EncoderCard]:
    """open_clip's networks around ``trunk`` with the shapes ``own``, one for each normalisation and size."""
    seen = set()
    for name, config in open_clip_models.tower_configs().items() if open_clip_models.is_installed() else ():
        if config["vision_cfg"].get("timm_model_name") != trunk.partition("/")[2]:
            continue
        size, mean, std = default_preprocessing(name)
        side = size[0] if size[0] == size[1] else size
        card = EncoderCard(architecture=name, input_size=side, mean=mean, std=std)
        if (size, mean, std) not in seen and _fits(card, own):
            seen.add((size, mean, std))
            yield card


def _open_clip(tower: Tower, own: Mapping[str, Shape]) -> Iterator[EncoderCard]:
    seen: set[bool] = set()
    configs = open_clip_models.tower_configs()
    # Several text sides have one tower: the plain names come first.
    for name in sorted(configs, key=lambda name: (not re.match("open_clip/(ViT-|RN)", name), len(name))):
        config = configs[name]
        if not _is(tower, config["embed_dim"], config["vision_cfg"]):
            continue
        quick = bool(config.get("quick_gelu", False)) and tower.patch is not None
        if quick in seen:
            continue  # another text side, other published pixels: the same tower
        card = _card(name, tower)
        if _fits(card, own):
            seen.add(quick)
            yield card


def _is(tower: Tower, embed_dim: int, vision: Mapping[str, Any]) -> bool:
    layers = vision.get("layers", 12)
    depth = tuple(layers) if isinstance(layers, list) else layers
    size = vision.get("image_size", 224)
    patch = vision.get("patch_size", 16) if tower.patch is not None else None
    return (
        "timm_model_name" not in vision
        and (tower.width, tower.depth, tower.patch, tower.side) == (vision.get("width", 768), depth, patch, size)
        and tower.embed_dim in (None, embed_dim)
    )


def _timm(tower: Tower) -> Iterator[EncoderCard]:
    """timm's networks of the same tower, whose feature is the one before the projection."""
    begin, mark = ("timm/resnet", "_clip") if tower.patch is None else ("timm/vit_", f"patch{tower.patch}_clip_")
    for name in known_architectures():
        if not name.startswith(begin) or mark not in name or name.endswith("_gap"):
            continue
        if default_preprocessing(name)[0][0] != tower.side:
            continue
        card = _card(name, tower)
        shapes = shapes_of(build_backbone(card, device="meta"))
        if tower.patch is None:
            width = shapes["head.q.weight"][0] // 32 if "head.q.weight" in shapes else 0
            depth: object = tuple(_count(shapes, f"stages.{stage}.") for stage in range(4))
        else:
            width, depth = shapes["patch_embed.proj.weight"][0], _count(shapes, "blocks.")
        if (width, depth) == (tower.width, tower.depth):
            yield card


def _card(architecture: str, tower: Tower) -> EncoderCard:
    _, mean, std = default_preprocessing(architecture)
    if architecture.startswith("timm/"):
        mean, std = CLIP
    before = False if tower.embed_dim is None and architecture.startswith("open_clip/") else None
    return EncoderCard(architecture=architecture, input_size=tower.side, mean=mean, std=std, projection=before)


def _fits(card: EncoderCard, own: Mapping[str, Shape]) -> bool:
    try:
        expected = shapes_of(build_backbone(card, device="meta"))
    except UnsupportedInput:
        return False
    return all(own.get(n) == shape for n, shape in expected.items() if not n.endswith("num_batches_tracked"))


def _count(shapes: Mapping[str, Shape], prefix: str) -> int:
    return len({name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix)})


def _root(patches: int) -> int:
    side = math.isqrt(max(0, patches))
    return side if side * side == patches else 0
