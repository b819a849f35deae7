"""Figure 4: how many clean images the defence has (the holding rate)."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.contents import four_attacks
from tests.benchmarks.tables.contents.comparison import Column, comparison

RATES = (0.01, 0.05, 0.1)
PAPER = """*The paper, Figure 4, is a picture; its text has one figure: with 1 % the ASR of BadEncoder is 0.8 %, that of
the other attacks below 10 %.*"""
REMARK = """Shares of the test half's number of images, drawn from the training half. One detection and one unlearning
each."""


def _columns(bench: Bench) -> Sequence[Column]:
    def holding(rate: float) -> Column:
        return Column(
            f"{100 * rate:g} %",
            lambda encoder, seed: bench.purification(encoder, seed, images=bench.clean(encoder, rate)),
        )

    return [holding(rate) for rate in RATES]


TABLE = comparison("figure-4", encoders=four_attacks.encoders, columns=_columns, paper=PAPER, remark=REMARK)
