"""Cleansing: what is found and removed in each poisoned set, and what a training on the rest is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.registry import CLEANSING
from tests.benchmarks.tables import markdown
from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.cells import Cell
from tests.benchmarks.tables.contents.note import note
from tests.benchmarks.tables.contents.readings import Document, numbers_of, readings
from tests.benchmarks.tables.contents.table import Results, Table
from tests.benchmarks.tables.poison_cells import CleansingRun, Retraining
from tests.benchmarks.tables.poisoned import PoisonedSet
from tests.benchmarks.tables.summary import text

REMARK = """*Top 20*, *top 50*: share of the best candidate windows that cover at least half of a true patch;
*search's*: of those that were not found by the pixels they share with others. *Recall*: share of the poisoned images
that were removed; *precision*: share of the removed that were poisoned. *Clean twin*: the same images without poison,
cleansed with the clean reference encoder. CTRL's pattern and noise over the whole image, where they stand here, are
outside of these methods' reach and show it."""

WINDOWS = ("top_20", "top_50", "searched_top_20", "searched_top_50")
WINDOW_HEADINGS = ("top 20", "top 50", "search's top 20", "search's top 50")
"""Columns on the candidate windows."""

RETRAINED = """*Poisoned*: the encoder trained on the poisoned set. *Never poisoned*: the reference, trained on all the
images without poison and tested with the same trigger. *Cleansed*: trained by its recipe on what PoisonCAM kept."""


def _methods() -> list[str]:
    return [method.key for method in CLEANSING]


def _runs(bench: Bench, poisoned: PoisonedSet, method: str) -> list[CleansingRun]:
    return [bench.cleansing(poisoned, seed, {"method": method}) for seed in range(bench.seeds)]


def _twins(bench: Bench) -> list[CleansingRun]:
    """One of each clean reference for each method and seed."""
    firsts = {each.reference.sha256: each for each in reversed(bench.poisoned)}
    return [
        bench.cleansing(each, seed, {"method": method}, twin=True)
        for each in firsts.values()
        for method in _methods()
        for seed in range(bench.seeds)
    ]


def _cells(bench: Bench) -> list[Cell]:
    runs = [run for each in bench.poisoned for method in _methods() for run in _runs(bench, each, method)]
    return [*runs, *_twins(bench)]


def _render(bench: Bench, results: Results) -> str:
    rows = []
    for each in bench.poisoned:
        for method in _methods():
            documents = [results.of(run) for run in _runs(bench, each, method)]
            rows.append([each.name, each.encoder.attack_title, each.encoder.architecture, method, *_fields(documents)])
    for run in _twins(bench):
        name = f"clean twin ({run.encoder.name})"
        rows.append([name, "none", run.encoder.architecture, str(run.values["method"]), *_fields([results.of(run)])])
    headings = [
        "set", "attack", "threat model", "method", "verdict", "poisoned", "removed", *WINDOW_HEADINGS, "recall",
        "precision", "seconds", "CPU s",
    ]  # fmt: skip
    table = markdown.table(headings, rows, words=5) if rows else ""
    return "\n\n".join(part for part in (table, note(_cells(bench), results), REMARK) if part)


def _fields(documents: Sequence[Document]) -> list[str]:
    verdicts = {str(row.get("verdict", "refused")) for row in documents if row is not None}
    counts = [text(numbers_of(documents, name), 0) for name in ("poisoned", "removed")]
    shares = [_percent(documents, name) for name in (*WINDOWS, "recall", "precision")]
    return [
        ", ".join(sorted(verdicts)), *counts, *shares,
        *(text(numbers_of(documents, name), 0) for name in ("seconds", "cpu_seconds")),
    ]  # fmt: skip


def _percent(documents: Sequence[Document], name: str) -> str:
    """A share; a dash where a run had nothing to take it of."""
    there: list[Mapping[str, Any]] = [row for row in documents if row is not None and row["problem"] is None]
    if there and all(row[name] is None for row in there):
        return "-"
    return text(numbers_of(documents, name))


def _retrainings(bench: Bench, poisoned: PoisonedSet) -> list[Retraining]:
    return [Retraining(run) for run in _runs(bench, poisoned, _methods()[0])]


def _retraining_cells(bench: Bench) -> list[Cell]:
    cells: list[Cell] = []
    for each in bench.poisoned:
        cells += [bench.measurement(each.encoder), bench.measurement(each.never_poisoned)]
        cells += _retrainings(bench, each)
    return cells


def _render_retraining(bench: Bench, results: Results) -> str:
    rows = []
    for each in bench.poisoned:
        on = each.encoder.dataset
        groups = [
            [results.of(bench.measurement(each.encoder))],
            [results.of(bench.measurement(each.never_poisoned))],
            [results.of(cell) for cell in _retrainings(bench, each)],
        ]
        fields = [readings(group, on, name) for name in ("acc", "asr") for group in groups]
        rows.append([each.name, each.encoder.attack_title, *fields])
    heads = ("poisoned", "never poisoned", "cleansed")
    headings = ["set", "attack", *(f"{name}, {head}" for name in ("ACC", "ASR") for head in heads)]
    table = markdown.table(headings, rows, words=2) if rows else ""
    return "\n\n".join(part for part in (table, note(_retraining_cells(bench), results), RETRAINED) if part)


TABLE = Table("cleansing", _cells, _render)
RETRAINING = Table("cleansing-retraining", _retraining_cells, _render_retraining)
