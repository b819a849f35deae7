"""What a search that found nothing is worth: whether backdoors were looked for as hard as when its power was measured.

Whoever may set parameters could otherwise buy the word *clean*: one step finds nothing. So *clean* needs a search that
was at least as long, in every part, as one of which is known how many planted backdoors it found, at about this image
size (``power.json``; ``docs/results.md``). Below that the answer is *inconclusive* and says what was short.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from importlib.resources import files
from typing import Any

from core.config import MethodConfig

FORMAT = "encoder-audit-power/1"

LEAST_POWER = 0.5
"""Share of planted backdoors that a search must have found to acquit anybody."""

SIDES_ALIKE = 1.5
"""A side is covered by a measured one up to this ratio."""


class Effort(Enum):
    """How a parameter bears on what a search may miss: it must be at least, at most or just what was measured, or it
    does not matter. A parameter that a method does not list must be just what was measured."""

    AT_LEAST = auto()
    AT_MOST = auto()
    FREE = auto()


@dataclass(frozen=True)
class Power:
    """``found`` of ``planted`` backdoors, by ``method`` with ``preset``, in encoders of images of ``side`` pixels."""

    method: str
    preset: str
    side: int
    planted: int
    found: int
    source: str

    def covers(self, image_size: tuple[int, int]) -> bool:
        """Whether ``image_size`` (height, width) is about the size of the measured encoders' images."""
        return self.distance(image_size) <= math.log(SIDES_ALIKE) + 1e-9

    def distance(self, image_size: tuple[int, int]) -> float:
        """How far the shorter side of ``image_size`` (height, width) is from the measured one, as a logarithm."""
        return abs(math.log(min(image_size) / self.side))


@lru_cache(maxsize=1)
def shipped_power() -> tuple[Power, ...]:
    """What was measured for this version."""
    document = json.loads(files("core.recovery").joinpath("power.json").read_text(encoding="utf-8"))
    if document.get("format") != FORMAT:
        raise ValueError(f"format {document.get('format')!r}, not {FORMAT}")
    return tuple(Power(**row) for row in document["measured"])


@dataclass(frozen=True)
class Worth:
    """``objections`` are sentences that say why nothing found is not *clean*; without any, ``power`` is one that says
    what was measured."""

    objections: tuple[str, ...]
    power: str = ""


def worth(
    method: str, config: MethodConfig, image_size: tuple[int, int], measured: tuple[Power, ...] | None = None
) -> Worth:
    """What a search of ``method`` with ``config`` is worth that found nothing on images of ``image_size``.

    ``measured`` is :func:`shipped_power` unless given.
    """
    rows = [row for row in (shipped_power() if measured is None else measured) if row.method == method]
    if not rows:
        return Worth((f"How many backdoors the method {method} finds was not measured.",))
    short = {row.preset: _short_of(config, _preset(type(config), row.preset)) for row in rows}
    enough = [row for row in rows if not short[row.preset]]
    if not enough:
        return Worth(min(short.values(), key=len))
    near = [row for row in enough if row.covers(image_size)]
    if not near:
        sides = ", ".join(map(str, sorted({row.side for row in enough})))
        return Worth(
            (
                f"How many backdoors this search finds was measured on encoders of images of {sides} pixels, not of "
                f"{image_size[0]}x{image_size[1]}.",
            )
        )
    best = max(near, key=lambda row: (-row.distance(image_size), row.found / row.planted, row.planted))
    said = f"found {best.found} of {best.planted} planted backdoors at {best.side} pixels"
    if best.found < LEAST_POWER * best.planted:
        return Worth((f"This search {said}: too few to call an encoder clean by.",))
    return Worth((), f"A search of this effort {said} ({best.source}).")


def _preset(model: type[MethodConfig], preset: str) -> MethodConfig:
    presets: Mapping[str, Mapping[str, Any]] = getattr(model, "presets", {})
    return model.model_validate({} if preset == "default" else presets[preset])


def _short_of(config: MethodConfig, measured: MethodConfig) -> tuple[str, ...]:
    """A sentence for every parameter by which ``config`` may miss what ``measured`` found."""
    efforts: Mapping[str, tuple[Effort, str]] = getattr(type(config), "effort", {})
    sentences = []
    for name in type(config).model_fields:
        given, least = getattr(config, name), getattr(measured, name)
        effort, search = efforts.get(name, (None, "the search"))
        if effort is Effort.FREE or given == least:
            continue
        if effort is Effort.AT_LEAST and not _reaches(given, least):
            sentences.append(f"{search[0].upper()}{search[1:]} was cut short: {name} is {_shown(given)}, "
                             f"and {_shown(least)} where its power was measured.")  # fmt: skip
        elif effort is Effort.AT_MOST and given > least:
            sentences.append(f"{search[0].upper()}{search[1:]} was cut short: {name} is {_shown(given)}, "
                             f"and at most {_shown(least)} where its power was measured.")  # fmt: skip
        elif effort is None:
            sentences.append(
                f"The power of the search was measured with {name} = {_shown(least)}, not {_shown(given)}."
            )
    return tuple(sentences)


def _reaches(given: Any, least: Any) -> bool:
    """Whether ``given`` is at least ``least``; a list, if its largest values are."""
    if isinstance(least, tuple):
        largest = sorted(given)[-len(least) :]
        return len(given) >= len(least) and all(a >= b for a, b in zip(largest, sorted(least), strict=True))
    return bool(given >= least)


def _shown(value: Any) -> str:
    return f"{len(value)} restarts" if isinstance(value, tuple) else f"{value:g}"
