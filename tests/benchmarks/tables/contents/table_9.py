"""Table IX: the two terms of the unlearning's loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.contents import four_attacks
from tests.benchmarks.tables.contents.comparison import Column, comparison, from_paper

PAPER = from_paper(
    "Table IX, CIFAR-10, SimCLR (the text at hand lacks its columns for BadEncoder)",
    ["attack", "neither", "L1 alone", "L2 alone", "both"],
    [
        ["SSL-Backdoor", "77.04 / 27.93", "70.33 / 4.90", "75.47 / 19.96", "76.44 / 4.36"],
        ["PoisonedEncoder", "75.64 / 32.93", "69.75 / 3.58", "71.16 / 22.89", "73.68 / 1.19"],
        ["CorruptEncoder", "78.40 / 36.58", "68.63 / 7.27", "74.24 / 29.62", "72.10 / 0.54"],
    ],
)
REMARK = (
    "L1 moves triggered features to clean ones (`unlearn_weight`), L2 holds clean ones (`distil_weight`); 0 is off."
)
TERMS: Mapping[str, Mapping[str, Any]] = {
    "L1 alone": {"distil_weight": 0.0},
    "L2 alone": {"unlearn_weight": 0.0},
    "both": {},
}


def _columns(bench: Bench) -> Sequence[Column]:
    def with_terms(title: str, values: Mapping[str, Any]) -> Column:
        chosen = {"method": "ssldefender", **values}
        return Column(title, lambda encoder, seed: bench.purification(encoder, seed, chosen))

    return [with_terms(title, values) for title, values in TERMS.items()]


TABLE = comparison("table-9", encoders=four_attacks.encoders, columns=_columns, paper=PAPER, remark=REMARK)
