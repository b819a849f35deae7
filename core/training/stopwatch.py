"""How long a training took, whatever interrupted it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.run import StateDict


@dataclass(frozen=True)
class Spent:
    """``seconds`` on the clock; ``cpu_seconds`` of this process on all cores, which other work beside it does not
    lengthen."""

    seconds: float
    cpu_seconds: float


class Stopwatch:
    """Runs from its making on, after what earlier processes had spent. A ``Stateful``."""

    def __init__(self) -> None:
        self._before = Spent(0.0, 0.0)
        self._began = self._now()

    def spent(self) -> Spent:
        now = self._now()
        return Spent(
            self._before.seconds + now.seconds - self._began.seconds,
            self._before.cpu_seconds + now.cpu_seconds - self._began.cpu_seconds,
        )

    def state_dict(self) -> StateDict:
        spent = self.spent()
        return {"seconds": spent.seconds, "cpu_seconds": spent.cpu_seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._before, self._began = Spent(state["seconds"], state["cpu_seconds"]), self._now()

    @staticmethod
    def _now() -> Spent:
        return Spent(time.monotonic(), time.process_time())
