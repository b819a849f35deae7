"""Vision towers of the transformers library, built from a checkpoint's own ``config.json``, and the feature they give.

A table says which class each ``model_type`` is. No other class is ever built: no code that comes with a checkpoint runs
and nothing is downloaded. The library's own functions translate between the names in files and those of its modules.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn

from core.encoders.card import EncoderCard
from core.encoders.inspect_safetensors import MAX_TOTAL_BYTES
from core.encoders.tower_rows import ROWS, Row
from core.errors import UnsupportedInput, UsageError

_MAX_INTEGER = 65_536
_MAX_LAYERS = 128
_MAX_WINDOW = 64
_MAX_LIST = 16
_MAX_SIDE = 2_048
_UNUSED = ("mask_token", "position_ids", "relative_position_index", "relative_coords_table")


class Tower(nn.Module):
    """A vision tower whose output is one vector per image: ``[B, 3, H, W]`` normalised pixels to ``[B, D]``."""

    def __init__(self, model: Any, row: Row, pooling: str, projected: bool, size: tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        self._prefix_tokens = row.prefix_tokens + int(getattr(model.config, "num_register_tokens", 0) or 0)
        self._pooling = pooling
        self._projected = projected
        self._masks = row.masks
        self._interpolates = (
            "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
            and _pair(model.config.image_size) != size
        )

    def forward(self, pixels: Tensor) -> Tensor:
        options: dict[str, Any] = {"interpolate_pos_encoding": True} if self._interpolates else {}
        if self._masks:  # nothing is masked, and nothing is shuffled: equal noise would leave the order to the sort
            patch = _pair(self.model.config.patch_size)
            patches = (pixels.shape[2] // patch[0]) * (pixels.shape[3] // patch[1])
            options["noise"] = pixels.new_ones(len(pixels), patches).cumsum(1)
        output = self.model(pixel_values=pixels, return_dict=True, **options)
        if self._projected:
            return _tensor(output.image_embeds)
        if self._pooling == "pooler":
            return _tensor(output.pooler_output).flatten(1)
        tokens = _tensor(output.last_hidden_state)
        if self._pooling == "cls":
            return tokens[:, 0]
        return tokens.mean((2, 3)) if tokens.ndim == 4 else tokens[:, self._prefix_tokens :].mean(1)

    def to_file(self) -> dict[str, Tensor]:
        """The weights under the names, and in the pieces, in which the library writes them."""
        from transformers.core_model_loading import revert_weight_conversion

        written: dict[str, Tensor] = revert_weight_conversion(self.model, self.model.state_dict())
        return written

    def from_file(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inverse of :meth:`to_file`: this module's state dict from weights as a file has them."""
        _quiet()
        model, told = type(self.model).from_pretrained(
            None, config=self.model.config, state_dict=dict(state), output_loading_info=True, **self._built_with()
        )
        assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        return {f"model.{name}": value for name, value in model.state_dict().items()}

    def _built_with(self) -> dict[str, Any]:
        takes = inspect.signature(type(self.model).__init__).parameters
        return {"add_pooling_layer": self._pooling == "pooler"} if "add_pooling_layer" in takes else {}


def build_tower(card: EncoderCard) -> Tower:
    """The network of a ``transformers/<model_type>`` card on the current default device, with random weights.

    Raises:
        UnsupportedInput: a config that this family does not take, or beyond the limits.
        UsageError: ``missing_extra``, the library is not installed.
        ValueError: the library refuses the config.
    """
    row = ROWS[card.architecture.partition("/")[2]]
    library = _library()
    pooling = card.pooling or "pooler"
    projected = row.projected is not None and card.projection is not False and pooling == "pooler"
    if pooling == "cls" and not row.prefix_tokens:
        raise _bad("card.pooling", f"pooling 'cls' of a {card.architecture}", "'pooler' or 'mean': it has no CLS token")
    values = own_config(card.architecture, card.config or {})
    for name in getattr(library, row.config).__annotations__:  # nothing random, where a method trains the network
        if "drop" in name or name in ("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale"):
            values[name] = 0.0 if "drop" in name else None
    if "vision_use_head" in row.fixed_by_pooling:
        values["vision_use_head"] = pooling == "pooler"
    if row.masks:
        values["mask_ratio"] = 0.0
    try:
        config = getattr(library, row.config)(**values)
        kind = getattr(library, row.projected if projected and row.projected else row.model)
        takes = inspect.signature(kind.__init__).parameters
        options = {"add_pooling_layer": pooling == "pooler"} if "add_pooling_layer" in takes else {}
        return Tower(kind(config, **options), row, pooling, projected, card.image_size)
    except (KeyError, AttributeError, IndexError, ArithmeticError, _strict_error()) as failure:
        raise ValueError(f"the library refuses the config: {str(failure)[:300]}") from failure


def own_config(architecture: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a ``config.json`` that says how the tower computes: bounded numbers and words, no code, no labels.

    Raises:
        UnsupportedInput: ``invalid_config``, a value beyond the limits.
    """
    row = ROWS[architecture.partition("/")[2]]
    known = getattr(_library(), row.config).__annotations__
    kept = {name: value for name, value in config.items() if name in known and not name.startswith("_")}
    for name, value in kept.items():
        _check_value(name, value)
    if kept.get("num_channels", 3) != 3:
        raise _bad("config.num_channels", f"{kept['num_channels']} channels", "3 channels, RGB")
    return kept


def require_size(backbone: nn.Module) -> None:
    """Refuse a network that would take more memory than any file may have.

    Raises:
        UnsupportedInput: ``invalid_config``.
    """
    count = sum(parameter.numel() for parameter in backbone.parameters())
    if count * 4 > MAX_TOTAL_BYTES:
        raise _bad("config", f"a network of {count} weights", f"at most {MAX_TOTAL_BYTES // 4}")


def is_unused(name: str, expected: Iterable[str]) -> bool:
    """Whether a tensor of that name is one that files carry and the network with the names ``expected`` does without:
    index tables, mask tokens."""
    last = name.rpartition(".")[2]
    return last in _UNUSED and not any(each.endswith(last) for each in expected)


def _check_value(name: str, value: object, depth: int = 0) -> None:
    field = f"config.{name}"
    if isinstance(value, (list, tuple)):
        if len(value) > _MAX_LIST or depth:
            raise _bad(field, f"a list of {len(value)}", f"at most {_MAX_LIST} numbers")
        for each in value:
            _check_value(name, each, 1)
    elif isinstance(value, str):
        if len(value) > 40:
            raise _bad(field, f"{len(value)} letters", "a short word")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise _bad(field, str(value), "a finite number")
    elif isinstance(value, int):
        limit = _LIMITS.get(name, _MAX_INTEGER)
        if not -1 <= value <= limit:
            raise _bad(field, str(value)[:40], f"a number up to {limit}")
        if name in _POSITIVE and value < 1:
            raise _bad(field, str(value), "a positive number")
    elif value is not None:
        raise _bad(field, f"a {type(value).__name__}", "a number, a word or a list of numbers")


_LIMITS = {
    "num_hidden_layers": _MAX_LAYERS,
    "depths": _MAX_LAYERS,
    "window_size": _MAX_WINDOW,
    "image_size": _MAX_SIDE,
    "num_register_tokens": 1_024,
}
_POSITIVE = frozenset(
    "hidden_size hidden_sizes embedding_size embed_dim num_hidden_layers depths image_size patch_size "
    "num_attention_heads num_heads window_size intermediate_size projection_dim".split()
)


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if isinstance(value, (list, tuple)) else (int(value), int(value))


def _tensor(value: Any) -> Tensor:
    assert isinstance(value, Tensor)
    return value


def _bad(field: str, found: str, expected: str) -> UnsupportedInput:
    return UnsupportedInput(
        "invalid_config",
        field=field,
        found=found,
        expected=expected,
        action="Correct config.json, or the card's field of that name.",
    )


@cache
def _library() -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the library is imported
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise UsageError(
            "missing_extra",
            field="encoder",
            found="an encoder of the transformers library, and no package 'transformers'",
            expected="the package of the extra 'hf'",
            action="Install it: pip install 'encoder-audit[hf]', or in a checkout pip install '.[hf]'.",
        ) from error
    return transformers


@cache
def _strict_error() -> type[Exception]:
    from huggingface_hub.errors import StrictDataclassError

    return StrictDataclassError


@cache
def _quiet() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()
