"""A run that also notes how long each stage took, for the report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from core.run import Run, Stateful


@dataclass(frozen=True)
class StageTime:
    """Steps taken and seconds spent in one stage by this process; a stage resumed as finished has none."""

    name: str
    steps: int
    seconds: float


class StageClock:
    """Passes everything on to ``run`` and keeps the time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._times: dict[str, StageTime] = {}

    @property
    def times(self) -> tuple[StageTime, ...]:
        """The stages that began, in that order."""
        return tuple(self._times.values())

    def plan(self, stages: Mapping[str, float]) -> None:
        self._run.plan(stages)

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        began = time.monotonic()
        self._times[name] = StageTime(name, 0, 0.0)
        for taken, step in enumerate(self._run.steps(name, total, state=state), start=1):
            yield step
            self._times[name] = StageTime(name, taken, time.monotonic() - began)

    def log(self, **scalars: float) -> None:
        self._run.log(**scalars)
