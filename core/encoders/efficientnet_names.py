"""EfficientNets by the names of Melas-Kyriazi's ``efficientnet_pytorch`` and the packages after it, in timm's.

There ``_blocks`` are numbered through the whole network; in timm by stage and block. A stage is where all blocks have
one width. That code pads as TensorFlow does, and so do timm's networks whose names begin with ``tf_``: others of the
same names and shapes compute other features.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

ARCHITECTURES = "timm/tf_efficientnet"
"""How the names of the networks begin that compute what such a file means."""

_SIGN = "_conv_stem.weight"
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_BLOCK = re.compile(r"_blocks\.(\d{1,3})\.(\w+)\.(.+)")
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}


def renamed(own: Mapping[str, tuple[int, ...]]) -> dict[str, str] | None:
    """timm's name for each name in ``own`` (names relative to the encoder's prefix, and shapes); names that this
    convention does not have stay. None where ``own`` is of another convention."""
    if _SIGN not in own:
        return None
    places = _places(own)
    if not places:
        return None
    names = {name: _renamed(name, own, places) for name in own}
    return names if len(set(names.values())) == len(names) else None


def _places(own: Mapping[str, tuple[int, ...]]) -> dict[int, tuple[int, int]]:
    """Stage and number of each block in timm."""
    places: dict[int, tuple[int, int]] = {}
    stage, number, width = -1, 0, 0
    while (shape := own.get(f"_blocks.{len(places)}._project_conv.weight")) is not None and shape:
        stage, number = (stage, number + 1) if shape[0] == width else (stage + 1, 0)
        width = shape[0]
        places[len(places)] = (stage, number)
    return places


def _renamed(name: str, own: Mapping[str, tuple[int, ...]], places: Mapping[int, tuple[int, int]]) -> str:
    if (match := _BLOCK.fullmatch(name)) is None:
        top, _, rest = name.partition(".")
        return f"{_OUTSIDE[top]}.{rest}" if top in _OUTSIDE else name
    block, layer, rest = int(match[1]), match[2], match[3]
    expanded = f"_blocks.{block}._expand_conv.weight" in own
    layers = (_EXPANDED if expanded else _PLAIN) | _SQUEEZE
    if block not in places or layer not in layers:
        return name
    stage, number = places[block]
    return f"blocks.{stage}.{number}.{layers[layer]}.{rest}"
