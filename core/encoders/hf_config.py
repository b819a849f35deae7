"""From the ``config.json`` and ``preprocessor_config.json`` of a Hugging Face folder to the fields of a card.

Two forms of ``config.json`` are known: that of transformers (``model_type``) and that of timm (``architecture``,
``pretrained_cfg``). What neither file says is taken as the family publishes it, and said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from core.encoders.normalisations import normalisation_words
from core.encoders.tower_rows import ROWS, WHOLES, Row
from core.encoders.transformers_models import own_config
from core.errors import UnsupportedInput

_PIXEL = 1 / 255


@dataclass(frozen=True)
class Described:
    """``fields`` of a card that the folder's files give, and by field a sentence about what was taken without their
    word."""

    fields: Mapping[str, Any]
    assumptions: Mapping[str, str]


def describe(config: Mapping[str, Any], preprocessor: Mapping[str, Any] | None, names: Iterable[str]) -> Described:
    """The card of a folder with these two files whose weights have these ``names``.

    Raises:
        UnsupportedInput: ``unknown_architecture`` when no row of the table fits, ``invalid_config``.
        UsageError: ``missing_extra``, transformers is needed and not installed.
    """
    if "model_type" not in config and isinstance(config.get("architecture"), str):
        return _timm(config)
    architecture, own = vision_part(config)
    row = ROWS[architecture.partition("/")[2]]
    names = list(names)
    fields: dict[str, Any] = {"architecture": architecture, "config": own}
    pooling = _pooling(row, own, names)
    if pooling != "pooler":
        fields["pooling"] = pooling
    assumptions = _about_feature(row, pooling)
    if row.projected is not None:
        fields["projection"] = any(name.endswith("visual_projection.weight") for name in names)
        if fields["projection"]:
            assumptions["projection"] = (
                "The feature is image_embeds, after the projection; before it with projection false in a card."
            )
    size, mean, std, said = _pixels(row, own, preprocessor)
    fields |= {"input_size": size, "mean": mean, "std": std}
    return Described(fields, assumptions | said)


def vision_part(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(architecture, config) of the vision tower that a ``config.json`` of transformers describes.

    Raises:
        UnsupportedInput: ``unknown_architecture``; ``invalid_config`` where the folder brings its own code.
    """
    kind = config.get("model_type")
    if "auto_map" in config:
        raise UnsupportedInput(
            "invalid_config",
            field="config.auto_map",
            found="a model that brings its own code",
            expected="a model of the transformers library itself; code from folders is never run",
            action="If the library's own class computes the same, remove auto_map from config.json.",
        )
    if "quantization_config" in config:
        raise UnsupportedInput(
            "invalid_config",
            field="config.quantization_config",
            found="quantised weights",
            expected="weights as floating-point numbers",
            action="Give the folder of the model before quantisation.",
        )
    if isinstance(kind, str) and kind in WHOLES:
        part = config.get("vision_config") or config.get("vision_config_dict") or {}
        if not isinstance(part, Mapping):
            raise _unknown(kind)
        inner = dict(part)
        if kind == "clip":
            inner["projection_dim"] = config.get("projection_dim", 512)
        return f"transformers/{WHOLES[kind]}", own_config(f"transformers/{WHOLES[kind]}", inner)
    if not isinstance(kind, str) or kind not in ROWS:
        raise _unknown(kind)
    nested = config.get("vision_config")
    return f"transformers/{kind}", own_config(f"transformers/{kind}", nested if isinstance(nested, Mapping) else config)


def _unknown(kind: object) -> UnsupportedInput:
    return UnsupportedInput(
        "unknown_architecture",
        field="config.model_type",
        found="a config.json without model_type" if kind is None else f"model_type {ascii(kind)[:60]}",
        expected="an encoder of images: " + ", ".join([*WHOLES, *ROWS]),
        action="Give a folder of one of these, or the file of weights alone with an encoder card.",
    )


def _pooling(row: Row, config: Mapping[str, Any], names: list[str]) -> str:
    if row.pooler is None or any(name.endswith(row.pooler) for name in names):
        return "pooler"
    if row.pooler == "pooler.layernorm.weight" and config.get("use_mean_pooling") is False:
        return "pooler"  # BEiT's other pooler has no weights: it is the CLS token
    return row.without_pooler


def _about_feature(row: Row, pooling: str) -> dict[str, str]:
    if pooling == "pooler" and row.pooler == "pooler.dense.weight":
        return {
            "pooling": "The feature is pooler_output, since the weights of a pooler are there; the CLS token itself "
            "with pooling cls in a card."
        }
    if pooling == "cls":
        return {
            "pooling": "The feature is the CLS token of last_hidden_state, since there is no pooler; the mean of the "
            "patches with pooling mean in a card."
        }
    return {}


def _pixels(
    row: Row, config: Mapping[str, Any], given: Mapping[str, Any] | None
) -> tuple[Any, list[float], list[float], dict[str, str]]:
    """(input size, mean, std, sentences about what was not said)."""
    said = {}
    preprocessor = given or {}
    size = _size(preprocessor)
    if size is None:
        size = _pair(config.get("image_size")) or (224, 224)
        whose = "that of config.json" if "image_size" in config else "the usual one"
        said["input_size"] = f"No preprocessor_config.json gives the input size: {size[0]}x{size[1]} is {whose}."
    mean, std = _three(preprocessor.get("image_mean")), _three(preprocessor.get("image_std"))
    if preprocessor.get("do_normalize") is False:
        mean, std = [0.0] * 3, [1.0] * 3
    elif mean is None or std is None:
        (m0, m1, m2), (s0, s1, s2) = row.published
        mean, std = [m0, m1, m2], [s0, s1, s2]
        words = normalisation_words(*row.published)
        said["mean"] = f"No preprocessor_config.json gives mean and std: {words}, as this family is published."
    scale = preprocessor.get("rescale_factor", _PIXEL) if preprocessor.get("do_rescale", True) else 1.0
    if isinstance(scale, float | int) and scale > 0 and abs(scale / _PIXEL - 1) > 1e-3:
        mean, std = [m * _PIXEL / scale for m in mean], [s * _PIXEL / scale for s in std]
    return size[0] if size[0] == size[1] else list(size), mean, std, said


def _size(preprocessor: Mapping[str, Any]) -> tuple[int, int] | None:
    """What the processor hands on: the crop where it crops, else what it resizes to."""
    cropped = preprocessor.get("do_center_crop", "crop_size" in preprocessor)
    return (_pair(preprocessor.get("crop_size")) if cropped else None) or _pair(preprocessor.get("size"))


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, Mapping):
        value = value.get("shortest_edge", [value.get("height"), value.get("width")])
    pair = value if isinstance(value, list | tuple) else [value, value]
    good = len(pair) == 2 and all(type(side) is int and 0 < side < 100_000 for side in pair)
    return (pair[0], pair[1]) if good else None


def _three(value: Any) -> list[float] | None:
    three = value if isinstance(value, list | tuple) else [value] * 3
    good = len(three) == 3 and all(isinstance(v, float | int) and not isinstance(v, bool) for v in three)
    return [float(v) for v in three] if good else None


def _timm(config: Mapping[str, Any]) -> Described:
    """timm's own folders name the architecture and the pixels of its published weights."""
    pixels = config.get("pretrained_cfg")
    pixels = pixels if isinstance(pixels, Mapping) else config
    fields: dict[str, Any] = {"architecture": f"timm/{config['architecture']}"}
    size = pixels.get("input_size")
    if isinstance(size, list) and len(size) == 3 and (pair := _pair(size[1:])) is not None:
        fields["input_size"] = pair[0] if pair[0] == pair[1] else list(pair)
    for name in ("mean", "std"):
        if (three := _three(pixels.get(name))) is not None:
            fields[name] = three
    return Described(fields, {})
