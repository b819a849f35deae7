"""A run whose plans are in seconds: progress then goes as fast as time does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from core.run import Run, Stateful


class WeighedRun:
    """Passes everything on to ``run``, plans with the seconds of a forecast in place of their own shares.

    ``seconds`` maps stages to seconds. A stage that it does not name has its share in the unit of the others; of a
    stage in another round ("round 2: unlearn") the name without the prefix counts.
    """

    def __init__(self, run: Run, seconds: Mapping[str, float]) -> None:
        self._run = run
        self._seconds = seconds

    def plan(self, stages: Mapping[str, float]) -> None:
        known = {name: seconds for name in stages if (seconds := self._of(name)) is not None}
        shares = sum(stages[name] for name in known)
        unit = sum(known.values()) / shares if shares else 1.0
        self._run.plan({name: known.get(name, share * unit) for name, share in stages.items()})

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        return self._run.steps(name, total, state=state)

    def log(self, **scalars: float) -> None:
        self._run.log(**scalars)

    def _of(self, name: str) -> float | None:
        while name not in self._seconds:
            _, prefixed, name = name.partition(": ")
            if not prefixed:
                return None
        return self._seconds[name]
