"""What PoisonCAM's choices are worth: one set, one parameter at a time (the paper's Figures 4, 5 and 10 to 13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.cleansing.poison_cam import PoisonCamConfig
from tests.benchmarks.tables import markdown
from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.cells import Cell
from tests.benchmarks.tables.contents.cleansing import WINDOW_HEADINGS, WINDOWS
from tests.benchmarks.tables.contents.note import note
from tests.benchmarks.tables.contents.readings import numbers_of
from tests.benchmarks.tables.contents.table import Results, Table
from tests.benchmarks.tables.poison_cells import CleansingRun
from tests.benchmarks.tables.poisoned import PoisonedSet
from tests.benchmarks.tables.summary import text

_SEARCH_OF_PAPER: Mapping[str, Any] = {
    name: value
    for name, value in PoisonCamConfig.presets["paper"].items()
    if not name.startswith("classifier") and name not in ("window", "zoom", "cut", "remove_always")
}
"""The paper's search; its window is for 224 pixels, and its classifier takes ten times as long."""

VARIANTS: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("default", {}),
    ("masking: interval", {"strategy": "interval"}),
    ("masking: random", {"strategy": "random"}),
    ("window w: 6", {"window": 6}),
    ("window w: 12", {"window": 12}),
    ("clusters l: 50", {"clusters": 50}),
    ("clusters l: 400", {"clusters": 400}),
    ("masks B: 36", {"masks": 36}),
    ("masks B: 256", {"masks": 256}),
    ("poison set k: 5", {"poison_set": 5}),
    ("poison set k: 50", {"poison_set": 50}),
    ("the paper's search", _SEARCH_OF_PAPER),
)  # fmt: skip

REMARK = """The set that SSL-Backdoor, the papers' attack, poisoned most for one target; every other parameter is the
default: 64 masks, a window that is fitted to the data (9), a cluster per 128 images (156), a poison set of 20.
*Search's*: of the windows that were not found by the pixels they share with others.
*Classifier*: what the poison classifier alone would have removed at the paper's cut of 0.5; *recall* and *precision*
are those of what was removed."""


def _set(bench: Bench) -> PoisonedSet | None:
    fitting = [
        each for each in bench.poisoned if each.encoder.attack == "ssl-backdoor" and len(each.encoder.backdoors) == 1
    ]
    return max(fitting, key=lambda each: each.encoder.poison_rate or 0, default=None)


def _runs(bench: Bench, values: Mapping[str, Any]) -> list[CleansingRun]:
    chosen = _set(bench)
    if chosen is None:
        return []
    return [bench.cleansing(chosen, seed, {"method": "poison_cam", **values}) for seed in range(bench.seeds)]


def _cells(bench: Bench) -> list[Cell]:
    return [run for _, values in VARIANTS for run in _runs(bench, values)]


def _render(bench: Bench, results: Results) -> str:
    names = (*WINDOWS, "classifier_recall", "classifier_precision", "recall", "precision")
    rows = []
    for title, values in VARIANTS:
        documents = [results.of(run) for run in _runs(bench, values)]
        if documents:
            numbers = [text(numbers_of(documents, name)) for name in names]
            rows.append([title, *numbers, text(numbers_of(documents, "cpu_seconds"), 0)])
    heads = ["classifier's recall", "its precision", "recall", "precision"]
    table = markdown.table(["variant", *WINDOW_HEADINGS, *heads, "CPU s"], rows) if rows else ""
    return "\n\n".join(part for part in (table, note(_cells(bench), results), REMARK) if part)


TABLE = Table("cleansing-ablation", _cells, _render)
