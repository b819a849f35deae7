"""Readiness is asked by many probes at once and answered by the engines once for all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Checks = dict[str, str | None]
"""Engine -> None if it answers, else what is wrong with it."""

_FRESH_SECONDS = 2.0


class Readiness:
    """The engines' last answer, for two seconds; one request asks, the others wait for its answer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_at = float("-inf")
        self._found: Checks = {}

    def answer(self, ask: Callable[[], Checks]) -> Checks:
        """What ``ask`` said at most two seconds ago."""
        with self._lock:
            if time.monotonic() - self._asked_at > _FRESH_SECONDS:
                self._found = ask()
                self._asked_at = time.monotonic()
            return self._found
