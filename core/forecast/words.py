"""Durations and sizes as people say them, and durations as they type them."""

from __future__ import annotations

import re

from core.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TYPED = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", re.IGNORECASE)


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``30m``, ``2h``, ``1.5d``.

    Raises:
        UsageError: not of that form, or no time at all.
    """
    match = _TYPED.fullmatch(text)
    seconds = float(match[1]) * _SECONDS[match[2].lower()] if match else 0.0
    if not seconds:
        raise UsageError(
            "invalid_time_limit",
            field="time_limit",
            found=f"'{text}'",
            expected="a number with a unit: 90s, 30m, 2h or 1d",
            action="Correct it.",
        )
    return seconds


def duration(seconds: float) -> str:
    """``seconds`` in the unit that suits: 40 seconds, 12 minutes, 2.5 hours, 3 days."""
    if seconds < 90:
        return _counted(max(1, round(seconds)), "second")
    if seconds < 90 * 60:
        return _counted(round(seconds / 60), "minute")
    hours = seconds / 3600
    if hours < 36:
        return f"{hours:.1f}".removesuffix(".0") + " hours"
    return f"{hours / 24:.1f}".removesuffix(".0") + " days"


def span(low: float, high: float) -> str:
    """A range of seconds: "12 to 30 minutes", or one duration where both read the same."""
    first, second = duration(low), duration(high)
    if first == second:
        return f"about {first}"
    number, unit = first.split()
    other = second.split()[1]
    return f"{number} to {second}" if unit.rstrip("s") == other.rstrip("s") else f"{first} to {second}"


def size(count: int) -> str:
    """Bytes in MiB or GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{max(1, round(count / 2**20))} MiB"


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
