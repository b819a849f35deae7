"""JSON from clients, with what PostgreSQL or a later reader could not take turned away at the door."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

_DEEPEST = 64


def parse_json(text: str) -> Any:
    """The value in ``text``.

    Raises:
        ValueError: not JSON, or JSON with NaN, infinities, NUL characters, lone surrogates, repeated keys, or nested
            more than 64 deep.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError(f"nested more than {_DEEPEST} deep") from error
    _check(value)
    return value


def _check(value: Any) -> None:
    waiting = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} deep")
        if isinstance(item, dict):
            waiting += [(each, depth + 1) for pair in item.items() for each in pair]
        elif isinstance(item, list):
            waiting += [(each, depth + 1) for each in item]
        elif isinstance(item, str):
            if "\0" in item or any("\ud800" <= character <= "\udfff" for character in item):
                raise ValueError("a string holds characters that are not text")
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError("a number is too large")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
