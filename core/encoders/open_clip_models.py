"""Vision towers of the open_clip library, built from its own list of configs, and the feature they give.

Only the tower is built: no text side, no tokenizer, no download. The feature is what ``encode_image`` gives before it
is normalised; ``projection: false`` in the card leaves out the projection into the space that images and texts share.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from core.encoders.card import EncoderCard
from core.errors import UnsupportedInput, UsageError

Three = tuple[float, float, float]


def build_tower(card: EncoderCard) -> nn.Module:
    """The vision tower of an ``open_clip/<name>`` card on the current default device, with random weights:
    ``[B, 3, H, W]`` normalised pixels to ``[B, D]``. Names in its state dict are those behind ``visual.`` in a file.

    Raises:
        UsageError: ``missing_extra``, the library is not installed.
        UnsupportedInput: ``no_projection``, it cannot be left out of this network.
        ValueError: the network does not exist at the card's input size.
    """
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    config = _config(card.architecture.partition("/")[2])
    height, width = card.image_size
    vision = dict(config["vision_cfg"]) | {"timm_model_pretrained": False, "patch_dropout": 0.0}
    vision["image_size"] = height if height == width else (height, width)
    if isinstance(vision.get("layers"), list) and height != width:
        raise ValueError("this architecture takes square images only")
    tower: Any = _build_vision_tower(config["embed_dim"], CLIPVisionCfg(**vision), config.get("quick_gelu", False))
    if getattr(tower, "output_tokens", False):  # CoCa's towers give their tokens, too
        tower.output_tokens = False
    if card.projection is False:
        _without_projection(tower)
    built: nn.Module = tower.to("meta") if torch.get_default_device().type == "meta" else tower
    return built


def require_known(architecture: str) -> None:
    """Refuse a name that the library does not list.

    Raises:
        UnsupportedInput: ``unknown_architecture``, with near matches.
        UsageError: ``missing_extra``, the library is not installed.
    """
    known = [f"open_clip/{name}" for name in _library().list_models()]
    if architecture in known:
        return
    near = difflib.get_close_matches(architecture, known, n=4)
    raise UnsupportedInput(
        "unknown_architecture",
        field="card.architecture",
        found=f"'{architecture}', which open_clip {_library().__version__} does not have",
        expected="open_clip/<name> of open_clip's list_models()"
        + (f"; near matches: {', '.join(near)}" if near else ""),
        action="Correct the name in the card.",
    )


def preprocessing(architecture: str) -> tuple[tuple[int, int], Three, Three]:
    """Input size, mean and std of ``open_clip/<name>``: those of its first published weights, OpenAI's where the
    library names none."""
    library, name = _library(), architecture.partition("/")[2]
    size = _config(name)["vision_cfg"].get("image_size", 224)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    tags = library.list_pretrained_tags_by_model(name)
    published: Mapping[str, Any] = library.get_pretrained_cfg(name, tags[0]) if tags else {}
    m0, m1, m2 = published.get("mean") or library.OPENAI_DATASET_MEAN
    s0, s1, s2 = published.get("std") or library.OPENAI_DATASET_STD
    return (height, width), (m0, m1, m2), (s0, s1, s2)


def tower_configs() -> dict[str, Mapping[str, Any]]:
    """The library's configs by ``open_clip/<name>``: ``embed_dim``, ``vision_cfg``, ``quick_gelu``.

    Raises:
        UsageError: ``missing_extra``, the library is not installed.
    """
    return {f"open_clip/{name}": _config(name) for name in _library().list_models()}


def is_installed() -> bool:
    """Whether the package of the extra ``open-clip`` is there."""
    try:
        _library()
    except UsageError:
        return False
    return True


def known_if_installed() -> tuple[str, ...]:
    """Every ``open_clip/<name>`` that the library lists; none where it is not installed."""
    return tuple(f"open_clip/{name}" for name in _library().list_models()) if is_installed() else ()


def _without_projection(tower: Any) -> None:
    head = getattr(tower, "head", None)
    if isinstance(getattr(tower, "proj", None), nn.Parameter):
        tower.proj = None
    elif isinstance(head, nn.Sequential) and hasattr(tower, "trunk"):
        for name in ("proj", "mlp"):
            if hasattr(head, name):
                setattr(head, name, nn.Identity())
    else:
        raise UnsupportedInput(
            "no_projection",
            field="card.projection",
            found="projection false, for a network whose attention pooling ends in the projection",
            expected="the feature after the projection, the only one that this network has",
            action="Leave projection out of the card.",
        )


def _config(name: str) -> Mapping[str, Any]:
    require_known(f"open_clip/{name}")  # other names than listed ones would be looked for on a hub
    config: Mapping[str, Any] = _library().get_model_config(name)
    return config


@cache
def _library() -> Any:
    try:
        import open_clip
    except ModuleNotFoundError as error:
        raise UsageError(
            "missing_extra",
            field="card.architecture",
            found="a network of the open_clip library, and no package 'open_clip_torch'",
            expected="the package of the extra 'open-clip'",
            action="Install it: pip install 'encoder-audit[open-clip]', or in a checkout pip install '.[open-clip]'.",
        ) from error
    logging.getLogger("open_clip").setLevel(logging.ERROR)
    return open_clip
