"""Sizes of memory in words: ``3GiB``. Apart from ``memory``, so that who reads settings needs no torch."""

from __future__ import annotations

import re

from core.errors import UsageError

LEAST = 2**26
"""Bytes of the smallest budget: an image of 224 pixels in an encoder of today takes about as much."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]i?)?b?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of ``3GiB``, ``800 MB``, ``2.5G`` or a plain number.

    Raises:
        UsageError: it is not of that form, or less than 64 MiB.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * _UNITS[(match[2] or "").lower()]) if match else 0
    if size < LEAST:
        raise UsageError(
            "invalid_memory",
            field="memory",
            found=f"'{text}'",
            expected="a size with its unit, at least 64MiB, such as 3GiB or 800MB",
            action="Correct it, or leave it out: a quarter of what is free is taken then.",
        )
    return size


def in_words(size: float) -> str:
    """``size`` bytes as ``--memory`` takes them, rounded up to two figures or to whole MiB."""
    return f"{-(-size // (2**30 / 10)) / 10:.1f}GiB" if size >= 2**30 else f"{-(-size // 2**20):.0f}MiB"
