"""Many cells, several at once, each in a process of its own; what is there already is not run again."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from tests.benchmarks.tables.cells import Cell, key
from tests.benchmarks.tables.results import ResultStore
from tests.benchmarks.tables.work import Workplace

Work = Callable[[Cell, Workplace], Mapping[str, Any]]


@dataclass(frozen=True)
class Ended:
    """A cell whose process ended. ``failure`` is its last words if it left no result: it will be tried again."""

    cell: Cell
    seconds: float
    failure: str | None = None


def with_needs(cells: Iterable[Cell]) -> list[Cell]:
    """``cells`` and all that they start from, each once, needs first."""
    ordered: dict[str, Cell] = {}

    def add(cell: Cell) -> None:
        for need in cell.needs:
            add(need)
        ordered.setdefault(key(cell), cell)

    for cell in cells:
        add(cell)
    return list(ordered.values())


def missing(cells: Iterable[Cell], store: ResultStore) -> list[Cell]:
    """Those of ``cells`` and their needs that have no result, in order."""
    return [cell for cell in with_needs(cells) if store.read(cell) is None]


def run_cells(
    cells: Iterable[Cell], place: Workplace, work: Work, *, jobs: int, budget_seconds: float | None = None
) -> Iterator[Ended]:
    """Run what is missing of ``cells``, ``jobs`` at a time; results are in the store when a cell is yielded.

    A cell waits for what it needs, and is passed over when that could not be measured. After ``budget_seconds`` no cell
    is begun any more. When this process is interrupted, the cells' processes are ended; their results are lost, nobody
    else's.
    """
    place.store.prepare()
    waiting = missing(cells, place.store)
    running: dict[Connection, _Running] = {}
    failed: set[str] = set()
    began = time.monotonic()
    try:
        while waiting or running:
            in_time = budget_seconds is None or time.monotonic() - began < budget_seconds
            while in_time and len(running) < jobs and (cell := _next(waiting, failed, place.store)) is not None:
                receiver, process = _start(cell, place, work)
                running[receiver] = _Running(cell, process, time.monotonic())
            if not running:
                return
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                ended = _end(ready, running.pop(ready), place.store)
                if ended.failure is not None:
                    failed.add(key(ended.cell))
                yield ended
    finally:
        for each in running.values():
            each.process.terminate()
        for each in running.values():
            each.process.join()


@dataclass(frozen=True)
class _Running:
    cell: Cell
    process: BaseProcess
    began: float


def _next(waiting: list[Cell], failed: set[str], store: ResultStore) -> Cell | None:
    """Take the first cell whose needs are measured; drop those whose needs cannot be."""
    for cell in list(waiting):
        found = [store.read(need) for need in cell.needs]
        if any(key(need) in failed for need in cell.needs) or any(row and row["problem"] for row in found):
            waiting.remove(cell)
            failed.add(key(cell))
        elif None not in found:
            waiting.remove(cell)
            return cell
    return None


def _start(cell: Cell, place: Workplace, work: Work) -> tuple[Connection, BaseProcess]:
    # A fork would inherit torch's threads, and a GPU cannot be used after one.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work_and_send, args=(cell, place, work, sender), daemon=True)
    process.start()
    # Only the process holds the other end now: when it dies, waiting ends.
    sender.close()
    return receiver, process


def _work_and_send(cell: Cell, place: Workplace, work: Work, sender: Connection) -> None:
    # An interrupt from the keyboard reaches the whole group; the parent ends its children itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sender.send(work(cell, place))


def _end(receiver: Connection, ended: _Running, store: ResultStore) -> Ended:
    seconds = time.monotonic() - ended.began
    try:
        document: Mapping[str, Any] = receiver.recv()
    except EOFError:
        ended.process.join()
        return Ended(ended.cell, seconds, f"its process ended with exit code {ended.process.exitcode}")
    finally:
        receiver.close()
    ended.process.join()
    store.write(ended.cell, document)
    return Ended(ended.cell, seconds)
