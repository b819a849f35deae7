"""Table VIII: what recovers the triggers: DECREE, ours without the information term, ours with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks.tables.bench import DEFAULT, Bench
from tests.benchmarks.tables.contents.comparison import Column, comparison, from_paper

WITH_INFORMATION: Mapping[str, Any] = {"method": "ssldefender", "mi_weight": 0.1}
"""MESA's weight; the paper names none."""
ALWAYS_DECREE: Mapping[str, Any] = {"method": "decree", "threshold": 0.999, "doubtful": 0.999}
"""DECREE's trigger whatever its size: what is compared here is the trigger, not the verdict."""

PAPER = from_paper(
    "Table VIII",
    ["attack", "without", "DECREE", "SSLDefender"],
    [["BadEncoder", "67.04 / 96.75", "64.16 / 35.23", "73.50 / 1.86"]],
)
REMARK = """The same unlearning after each recovery. The paper's 'DECREE' is its variant without mutual information; its
row joins two settings of its own Table II (STL-10: before with SimCLR, after with BYOL), where SimCLR ends at
67.39 / 1.95."""


def _columns(bench: Bench) -> Sequence[Column]:
    def after(title: str, detection: Mapping[str, Any]) -> Column:
        return Column(title, lambda encoder, seed: bench.purification(encoder, seed, detection=detection))

    return [after("DECREE", ALWAYS_DECREE), after("without MI", DEFAULT), after("with MI", WITH_INFORMATION)]


TABLE = comparison(
    "table-8",
    encoders=lambda bench: bench.of_attack("bad-encoder"),
    columns=_columns,
    paper=PAPER,
    remark=REMARK,
    labels=(("trigger", lambda encoder: encoder.trigger),),
)
