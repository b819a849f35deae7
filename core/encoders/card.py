"""The encoder card: what a file of weights does not say about itself.

A state dict holds names and numbers; to run it one must also know the architecture, the changes made to it, the input
size and the normalisation of pixels. A card says these four things, in JSON, ``encoder-card/1``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from core.errors import AuditError, UsageError

FORMAT: Literal["encoder-card/1"] = "encoder-card/1"

_Pair = tuple[int, int]
_Kernel = Annotated[int, Field(ge=1, le=31)]
_Stride = Annotated[int, Field(ge=1, le=32)]
_Padding = Annotated[int, Field(ge=0, le=31)]
_Dilation = Annotated[int, Field(ge=1, le=16)]
_Side = Annotated[int, Field(ge=8, le=1024)]
_Mean = Annotated[float, Field(ge=0, le=1)]
_Std = Annotated[float, Field(ge=1e-3, le=2)]
_MODULE_PATH = re.compile(r"[A-Za-z0-9_]{1,64}(\.[A-Za-z0-9_]{1,64}){0,15}")
_MAX_OVERRIDES = 64
_MAX_CONFIG = 100_000


class ConvolutionChange(BaseModel):
    """Attributes of one convolution that differ from the architecture's own; each an integer or ``[h, w]``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kernel_size: _Kernel | tuple[_Kernel, _Kernel] | None = None
    stride: _Stride | tuple[_Stride, _Stride] | None = None
    padding: _Padding | tuple[_Padding, _Padding] | None = None
    dilation: _Dilation | tuple[_Dilation, _Dilation] | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _list_as_pair(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    def changes(self) -> dict[str, _Pair]:
        """The attributes that are given, each as a pair."""
        given = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {
            name: value if isinstance(value, tuple) else (value, value) for name, value in given if value is not None
        }


class EncoderCard(BaseModel):
    """What a file of weights is. ``mean`` and ``std`` are of pixels in [0, 1], channels RGB."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    format: Literal["encoder-card/1"] = FORMAT
    architecture: str = Field(pattern=r"^(torchvision|timm|transformers|open_clip)/[A-Za-z0-9_.\-]{1,100}$")
    overrides: Mapping[str, Literal["identity"] | ConvolutionChange] = Field(
        default_factory=dict,
        json_schema_extra={"maxProperties": _MAX_OVERRIDES, "propertyNames": {"pattern": f"^{_MODULE_PATH.pattern}$"}},
    )
    input_size: _Side | tuple[_Side, _Side]
    mean: tuple[_Mean, _Mean, _Mean]
    std: tuple[_Std, _Std, _Std]
    feature_dim: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    audited_copy: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(default=None, alias="copy")
    """Which copy of the encoder is meant where the file holds several: its prefix or a part of it (``teacher``)."""
    config: Mapping[str, Any] | None = None
    """For ``transformers/<model_type>``: the checkpoint's own ``config.json``, as far as the network depends on it."""
    pooling: Literal["cls", "mean", "pooler"] | None = None
    """For ``transformers/``: the feature is the CLS token, the mean of the patches, or the library's pooled output."""
    projection: bool | None = None
    """For towers of models of images and text: whether the feature is taken after the projection."""

    @field_validator("input_size", "mean", "std", mode="before")
    @classmethod
    def _list_as_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _module_paths(self) -> EncoderCard:
        if len(self.overrides) > _MAX_OVERRIDES:
            raise ValueError(f"at most {_MAX_OVERRIDES} overrides")
        for path in self.overrides:
            if not _MODULE_PATH.fullmatch(path):
                raise ValueError("override names are dotted module paths, such as layer1.0.conv1")
        if self.projection is not None and self.architecture.startswith(("torchvision/", "timm/")):
            raise ValueError("projection goes with open_clip/<name> and transformers/<model_type>")
        if self.pooling is not None and not self.architecture.startswith("transformers/"):
            raise ValueError("pooling goes with transformers/<model_type>")
        if (self.config is not None) != self.architecture.startswith("transformers/"):
            raise ValueError("config goes with transformers/<model_type>, which cannot be built without it")
        if self.config is not None and len(json.dumps(dict(self.config))) > _MAX_CONFIG:
            raise ValueError(f"a config of at most {_MAX_CONFIG} letters: leave out what the network does not need")
        return self

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.input_size if isinstance(self.input_size, tuple) else (self.input_size, self.input_size)

    def to_json(self) -> dict[str, Any]:
        """The card as JSON values, the form in which it was read: absent fields stay absent."""
        return self.model_dump(mode="json", exclude_defaults=True, by_alias=True) | {"format": FORMAT}


SAMPLE_CARD: Mapping[str, Any] = MappingProxyType(
    {
        "format": FORMAT,
        "architecture": "torchvision/resnet18",
        "overrides": {"conv1": {"kernel_size": 3, "stride": 1, "padding": 1}, "maxpool": "identity"},
        "input_size": 32,
        "mean": [0.4914, 0.4822, 0.4465],
        "std": [0.2023, 0.1994, 0.201],
    }
)
"""A filled-in card, shown where one is missing."""


def parse_card(mapping: Mapping[str, Any], field: str = "card", error: type[AuditError] = UsageError) -> EncoderCard:
    """``mapping`` as a card. ``field`` is where it came from; ``error`` is whose fault a bad card is.

    Raises:
        AuditError: of class ``error``, code ``invalid_card``, naming the first field that does not fit
            (``card.mean``).
    """
    if not isinstance(mapping, Mapping):
        raise error(
            "invalid_card",
            field=field,
            found=f"a {type(mapping).__name__}",
            expected="a JSON object in the format encoder-card/1",
            action="Write the card as an object with architecture, input_size, mean and std.",
        )
    try:
        return EncoderCard.model_validate(dict(mapping))
    except ValidationError as failure:
        first = failure.errors()[0]
        # pydantic names the member of a union in the path; a reader of the card knows only the card's own words.
        words = [ascii(str(part))[1:-1][:80] for part in first["loc"] if not _is_union_member(part)]
        found = "nothing" if first["type"] == "missing" else ascii(first.get("input"))[:120]
        raise error(
            "invalid_card",
            field=".".join([field, *words]),
            found=found,
            expected=_expectation(first["type"], str(first["msg"]), str(first["loc"][0]) if first["loc"] else ""),
            action="Correct the card; its fields are " + ", ".join(list(_EXPECTED)[1:]) + ".",
        ) from failure


_EXPECTED = {
    "format": f"'{FORMAT}'",
    "architecture": "torchvision/<name>, timm/<name>, transformers/<model_type> or open_clip/<name>",
    "input_size": "a side of 8 to 1024 pixels, or [height, width]",
    "mean": "three numbers in [0, 1], the mean of pixels in [0, 1] (not 0..255)",
    "std": "three numbers in [0.001, 2], the standard deviation of pixels in [0, 1] (not 0..255)",
    "overrides": "per convolution kernel_size, stride, padding or dilation (integers or [h, w]), or 'identity'",
    "feature_dim": "a positive integer",
    "copy": "the name of one copy of the encoder in the file, such as teacher",
    "config": "the JSON object in the checkpoint's config.json",
    "pooling": "'cls', 'mean' or 'pooler'",
    "projection": "true or false",
}


def _expectation(kind: str, message: str, name: str) -> str:
    if kind == "extra_forbidden" and name not in _EXPECTED:
        return "one of " + ", ".join(_EXPECTED)
    return _EXPECTED.get(name, message)


def _is_union_member(part: object) -> bool:
    text = str(part)
    return text == "ConvolutionChange" or "[" in text or text in {"constrained-int", "int"}
