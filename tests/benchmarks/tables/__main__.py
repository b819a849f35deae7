"""Measure what is missing and render the tables: ``python -m tests.benchmarks.tables --zoo zoo-output --data DIR``."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from core.catalog import BUDGETS
from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.cells import Cell
from tests.benchmarks.tables.contents.registry import TABLES
from tests.benchmarks.tables.contents.table import Results, Table
from tests.benchmarks.tables.encoders import read_zoos
from tests.benchmarks.tables.images import ImageLibrary
from tests.benchmarks.tables.markdown import MarkerMissing, replace_between_markers
from tests.benchmarks.tables.poisoned import read_poisoned_sets
from tests.benchmarks.tables.results import ResultStore
from tests.benchmarks.tables.schedule import missing, run_cells
from tests.benchmarks.tables.work import Workplace, work

NO_ZOO = """No encoder with a truth in {folders}. Build a zoo first (hours on two cores; stopped, it goes on):
    encoder-audit zoo build zoo/cifar10-cpu.yaml --data {data} --output {first} --jobs 2"""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every table was rendered, 1 when runs failed, 2 when there is nothing to measure."""
    options = _options(arguments)
    library = ImageLibrary(options.data, cache=options.output / "images")
    encoders = read_zoos(options.zoo)
    if not encoders:
        folders = ", ".join(map(str, options.zoo))
        return _say(NO_ZOO.format(folders=folders, data=options.data, first=options.zoo[0]))
    absent = sorted({encoder.dataset for encoder in encoders if not library.has(encoder.dataset)})
    if absent:
        names = ", ".join(f"{name}-train.zip and {name}-test.zip" for name in absent)
        return _say(
            f"{options.data} lacks {names}, zips of class folders; name another folder with --data (make: DATA)."
        )
    poisoned = read_poisoned_sets(options.zoo)
    if options.encoders:
        known = {each.name for each in (*encoders, *poisoned)}
        unknown = sorted(set(options.encoders) - known)
        if unknown:
            return _say(f"No {', '.join(unknown)} in the zoo; it has {', '.join(sorted(known))}.")
        encoders = tuple(each for each in encoders if each.name in options.encoders)
        poisoned = tuple(each for each in poisoned if each.name in options.encoders)
    chosen = [table for table in TABLES if not options.only or table.name in options.only]
    bench = Bench(encoders, library, options.seeds, poisoned, tuple(options.budgets))
    store = ResultStore(options.output)
    failed = 0 if options.render_only else _measure(chosen, bench, store, options)
    _render(chosen, bench, store, options)
    return 1 if failed else 0


def _measure(chosen: Sequence[Table], bench: Bench, store: ResultStore, options: argparse.Namespace) -> int:
    """Run what is missing; the number of cells that failed."""
    # Libraries read it when they are loaded, in the cells' processes.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    signal.signal(signal.SIGTERM, _interrupted)
    cells = _by_seed(chosen, bench)
    left, done, failures = len(missing(cells, store)), 0, []
    _say(f"{len(bench.zoo)} encoders, {len(chosen)} tables, {left} runs to do, {options.jobs} at a time.")
    place = Workplace(bench.library, store, options.device, options.threads, _commit())
    budget = None if options.budget_minutes is None else 60.0 * options.budget_minutes
    try:
        for ended in run_cells(cells, place, work, jobs=options.jobs, budget_seconds=budget):
            done += 1
            result = "failed: " + ended.failure if ended.failure else _words(store, ended.cell)
            _say(f"{done}/{left} {ended.cell.title}: {result} ({ended.seconds:.0f} s)")
            failures += [ended.cell] if ended.failure else []
    except KeyboardInterrupt:
        _say("Interrupted: what was measured is kept; the same command goes on from there.")
    unmeasured = len(missing(cells, store))
    if unmeasured:
        _say(f"{unmeasured} runs are left; the same command goes on with them.")
    return len(failures)


def _by_seed(chosen: Sequence[Table], bench: Bench) -> list[Cell]:
    """All tables with the first seed, then with the second: what is there early is a whole table."""
    smaller = (replace(bench, seeds=seeds) for seeds in range(1, bench.seeds + 1))
    return [cell for bench in smaller for table in chosen for cell in table.cells(bench)]


def _render(chosen: Sequence[Table], bench: Bench, store: ResultStore, options: argparse.Namespace) -> None:
    results = Results(store)
    bodies = {table.name: table.render(bench, results) for table in chosen}
    (options.output / "tables").mkdir(parents=True, exist_ok=True)
    for name, body in bodies.items():
        (options.output / "tables" / f"{name}.md").write_text(body + "\n", encoding="utf-8")
    if options.write is None:
        return
    document = options.write.read_text(encoding="utf-8")
    for name, body in bodies.items():
        try:
            document = replace_between_markers(document, name, body)
        except MarkerMissing as absent:
            _say(f"{options.write}: {absent}; that table is only in {options.output / 'tables'}.")
    options.write.write_text(document, encoding="utf-8")


def _words(store: ResultStore, cell: Cell) -> str:
    document = store.read(cell)
    assert document is not None
    if document["problem"] is not None:
        return f"refused, {document['problem']['code']}"
    return str(document.get("verdict", "done"))


def _commit() -> str | None:
    """The commit of the sources, marked if they differ from it; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.tables", description=__doc__)
    add = parser.add_argument
    add("--zoo", type=Path, action="append", required=True, help="a zoo's folder; repeatable")
    add("--data", type=Path, required=True, help="folder of NAME-train.zip and NAME-test.zip")
    add("--output", type=Path, default=Path("bench-output"), help="where results are kept")
    add("--only", nargs="+", default=[], choices=[table.name for table in TABLES], metavar="NAME", help="these tables")
    add("--encoders", nargs="+", default=[], metavar="NAME", help="these of the zoo, and the sets they were trained on")
    add("--seeds", type=_positive, default=3)
    add(
        "--budgets", nargs="+", default=["quick"], choices=list(BUDGETS), metavar="NAME", help="of whole audits (sizes)"
    )
    add("--jobs", type=_positive, default=2, help="runs at a time")
    add("--threads", type=_positive, default=1, help="threads of a run")
    add("--device", default="auto")
    add("--budget-minutes", type=float, help="begin no run after this time")
    add("--render-only", action="store_true", help="run nothing")
    add("--write", type=Path, help="a document with a place for each table")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _interrupted(signal_number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _say(text: str) -> int:
    print(text, file=sys.stderr, flush=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
