"""``--set KEY=VALUE`` for commands that run one method, and its configuration from a preset and these."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from core.config import MethodConfig, parse_config
from core.errors import UsageError

ConfigT = TypeVar("ConfigT", bound=MethodConfig)


def read_settings(texts: Sequence[str], example: str) -> dict[str, Any]:
    """Each ``KEY=VALUE``; a value is JSON where it reads as JSON and a string otherwise.

    Raises:
        UsageError: one that is not of that form.
    """
    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(
                "invalid_setting",
                field="set",
                found=f"'{text}'",
                expected=f"KEY=VALUE, as in --set {example}",
                action="Correct it.",
            )
        try:
            values[key] = json.loads(value)
        except ValueError:
            values[key] = value
    return values


def configure(
    config: type[ConfigT],
    presets: Mapping[str, Mapping[str, Any]],
    preset: str | None,
    settings: Sequence[str],
    example: str,
) -> ConfigT:
    """The method's configuration: the preset's values, then what was set by hand.

    Raises:
        UsageError: no such preset, or a setting that does not fit.
    """
    chosen = preset or "default"
    if chosen not in presets:
        raise UsageError(
            "unknown_preset",
            field="preset",
            found=f"'{chosen}'",
            expected=f"one of {', '.join(presets)}",
            action="Choose one of these.",
        )
    return parse_config(config, {**presets[chosen], **read_settings(settings, example)}, path="set")
