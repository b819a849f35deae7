"""Table II: every attack before and after purification, by trainer."""

from __future__ import annotations

from tests.benchmarks.tables import markdown
from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.cells import Cell
from tests.benchmarks.tables.contents.note import note
from tests.benchmarks.tables.contents.readings import readings
from tests.benchmarks.tables.contents.table import Results, Table
from tests.benchmarks.tables.summary import verdicts

PAPER = {
    ("ssl-backdoor", "simclr"): "77.04 / 27.93 → 76.44 / 4.36",
    ("ssl-backdoor", "moco-v2"): "75.11 / 22.06 → 72.99 / 5.00",
    ("ssl-backdoor", "byol"): "89.40 / 30.93 → 87.42 / 2.09",
    ("poisoned-encoder", "simclr"): "75.64 / 32.93 → 73.68 / 1.19",
    ("poisoned-encoder", "moco-v2"): "75.40 / 23.31 → 67.45 / 0.34",
    ("poisoned-encoder", "byol"): "89.40 / 32.45 → 88.73 / 0.79",
    ("corrupt-encoder", "simclr"): "78.40 / 36.58 → 72.10 / 0.54",
    ("corrupt-encoder", "moco-v2"): "74.76 / 33.48 → 64.36 / 0.66",
    ("corrupt-encoder", "byol"): "89.80 / 31.91 → 87.50 / 0.96",
    ("bad-encoder", "simclr"): "80.98 / 98.92 → 81.16 / 0.58",
    ("bad-encoder", "moco-v2"): "80.37 / 99.61 → 80.00 / 0.97",
    ("bad-encoder", "byol"): "83.20 / 98.99 → 84.08 / 1.89",
}
"""Table II, CIFAR-10, ACC / ASR before -> after, by attack and trainer ('MoCo' there has no version)."""

REMARK = """Purified as `encoder-audit purify` does it: detection, unlearning, detection of the result, up to three
rounds; an encoder that was called clean is left as given. *Clean again*: purified encoders that the last detection
calls clean (*left*: called clean at once). The last column is the paper's Table II for the same attack and trainer on
CIFAR-10, ACC / ASR before → after; there the clean images come from the test set that is then tested on."""


def _cells(bench: Bench) -> list[Cell]:
    return [
        bench.purification(encoder, seed, verified=True) for seed in range(bench.seeds) for encoder in bench.backdoored
    ]


def _render(bench: Bench, results: Results) -> str:
    rows = []
    for encoder in bench.backdoored:
        on, before = encoder.dataset, [results.of(bench.measurement(encoder))]
        after = [results.of(bench.purification(encoder, seed, verified=True)) for seed in range(bench.seeds)]
        there = [row for row in after if row is not None and row["problem"] is None]
        last = [{**row["verification"], "problem": None} for row in there if row["verification"] is not None]
        counted = verdicts(last)
        clean = sum(row["verdict"] == "clean" for row in last)
        left = len(there) - counted.runs
        again = f"{clean} of {counted.runs}" + (f", {left} left" if left else "")
        rows.append(
            [
                encoder.name,
                encoder.attack_title,
                encoder.trigger,
                encoder.trainer,
                *(readings(before, on, name) for name in ("acc", "asr", "base")),
                *(readings(after, on, name) for name in ("acc", "asr", "base")),
                again if there else "",
                PAPER.get((encoder.attack or "", encoder.trainer), ""),
            ]
        )
    headings = [
        "encoder", "attack", "trigger", "trained by", "ACC", "ASR", "base", "ACC after", "ASR after", "base after",
        "clean again", "the paper",
    ]  # fmt: skip
    ours = markdown.table(headings, rows, words=4) if rows else ""
    return "\n\n".join(part for part in (ours, note(_cells(bench), results), REMARK) if part)


TABLE = Table("table-2", _cells, _render)
