"""A run that reports in lines: for logs, and for several pieces of work beside one another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from core.run import Progress, Stateful


class LineRun:
    """Says what stage is at what share, at its begin and every ``every`` seconds, through ``say``."""

    def __init__(self, say: Callable[[str], None], *, every: float = 30.0) -> None:
        self._say = say
        self._every = every
        self._progress = Progress()
        self._numbers = ""

    def plan(self, stages: Mapping[str, float]) -> None:
        self._progress.plan(stages)

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        said = time.monotonic()
        for step in range(total):
            yield step
            if time.monotonic() - said >= self._every:
                said = time.monotonic()
                self._say(f"{name} {100 * (step + 1) // total} %  {self._numbers}".rstrip())

    def log(self, **scalars: float) -> None:
        self._numbers = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
