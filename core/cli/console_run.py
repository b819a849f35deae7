"""A run on a terminal: one bar for the whole audit, on standard error; nothing at all where that is no terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

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
            TextColumn("[dim]{task.fields[numbers]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            # What is printed meanwhile (a library's warning) must not land on standard output, where the JSON goes.
            redirect_stdout=False,
        )
        self._task = self._bar.add_task("Reading the files", total=1.0, numbers="")

    def __enter__(self) -> ConsoleRun:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def plan(self, stages: Mapping[str, float]) -> None:
        self._progress.plan(stages)

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        title = name[:1].upper() + name[1:]
        self._bar.update(self._task, description=title, completed=self._progress.at(name, 0, total))
        for step in range(total):
            yield step
            self._bar.update(self._task, completed=self._progress.at(name, step + 1, total))

    def log(self, **scalars: float) -> None:
        shown = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
        self._bar.update(self._task, numbers=shown)
