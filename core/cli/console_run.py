"""A run on a terminal: one bar for the whole audit, on standard error; nothing at all where that is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from core.forecast.words import duration
from core.run import Progress, Stateful


class ConsoleRun:
    """Use as a context manager; the bar disappears at its end, however it comes."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress()
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("[dim]{task.fields[numbers]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            # What is printed meanwhile (a library's warning) must not land on standard output, where the JSON goes.
            redirect_stdout=False,
        )
        self._task = self._bar.add_task("Reading the files", total=1.0, numbers="", left="")
        self._began: float | None = None
        self._planned: Mapping[str, float] = {}

    def __enter__(self) -> ConsoleRun:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def expect_seconds(self) -> None:
        """From here on plans are in seconds, so that it can be said how many are left."""
        self._began = time.monotonic()
        self._bar.update(self._task, description="Beginning")

    def plan(self, stages: Mapping[str, float]) -> None:
        self._progress.plan(stages)
        self._planned = dict(stages)

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        title = name[:1].upper() + name[1:]
        self._bar.update(self._task, description=title)
        self._moved(name, 0, total)
        for step in range(total):
            yield step
            self._moved(name, step + 1, total)

    def log(self, **scalars: float) -> None:
        shown = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
        self._bar.update(self._task, numbers=shown)

    def _moved(self, name: str, step: int, total: int) -> None:
        done, planned = self._progress.at(name, step, total), sum(self._planned.values())
        left = ""
        if name not in self._planned and total > 1:  # the bar stands still meanwhile
            left = f"{100 * step // total} % of this"
        elif self._began is not None and planned:
            left = f"at most {duration(seconds_left(planned, done, time.monotonic() - self._began))} left"
        self._bar.update(self._task, completed=done, left=left)


def seconds_left(planned: float, done: float, elapsed: float) -> float:
    """Of ``planned`` seconds, a share of which is ``done`` after ``elapsed`` seconds: what is left, corrected by how
    the forecast did so far, the more the further the run is."""
    ahead = planned * (1 - done)
    if not done:
        return ahead
    pace = min(4.0, max(0.25, elapsed / (planned * done)))
    return ahead * ((1 - done) + done * pace)
