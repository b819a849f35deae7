"""Table VII: random triggers in place of the recovered ones."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.contents.comparison import Column, comparison, from_paper

PAPER = from_paper(
    "Table VII, BadEncoder, CIFAR-10",
    ["attack", "without", "trigger 1", "trigger 2", "trigger 3", "recovered"],
    [["BadEncoder", "83.20 / 98.99", "83.77 / 41.44", "83.75 / 51.25", "84.27 / 77.44", "84.08 / 1.89"]],
)
REMARK = (
    "The paper does not describe its three random triggers. All columns are one unlearning with the same parameters."
)
RANDOM = {
    "patches": {"patches": 16, "patterns": 1},
    "noise": {"patches": 0, "patterns": 16},
    "both": {},
}
"""Which random triggers are unlearnt: parameters of the method ``random-triggers``."""


def _columns(bench: Bench) -> Sequence[Column]:
    def drawn(title: str, values: dict[str, int]) -> Column:
        chosen = {"method": "random-triggers", **values}
        return Column(f"random {title}", lambda encoder, seed: bench.purification(encoder, seed, chosen))

    return [
        *(drawn(title, values) for title, values in RANDOM.items()),
        Column("recovered", lambda encoder, seed: bench.purification(encoder, seed)),
    ]


TABLE = comparison(
    "table-7",
    encoders=lambda bench: bench.of_attack("bad-encoder"),
    columns=_columns,
    paper=PAPER,
    remark=REMARK,
    labels=(("trigger", lambda encoder: encoder.trigger),),
)
