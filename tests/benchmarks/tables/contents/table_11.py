"""Table XI: the unlearning's batch size."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.contents.comparison import Column, comparison, from_paper
from tests.benchmarks.tables.encoders import ZooEncoder

SIZES = (32, 64, 128, 256, 512)
PAPER = from_paper(
    "Table XI, BadEncoder, CIFAR-10",
    ["batch size", "without", "SSLDefender"],
    [
        ["32", "85.59 / 99.36", "84.81 / 1.11"],
        ["64", "87.52 / 99.30", "87.58 / 1.12"],
        ["128", "83.20 / 98.99", "84.08 / 1.89"],
        ["256", "86.52 / 99.34", "86.51 / 0.68"],
        ["512", "84.01 / 99.09", "84.63 / 1.37"],
    ],
)
REMARK = """Steps and rate stay the same. A batch is at most all images that are trained on, in these runs six
sevenths of the clean ones. In the paper the encoder before changes with the batch size too."""


def _encoders(bench: Bench) -> Sequence[ZooEncoder]:
    return bench.representatives(["bad-encoder"])


def _columns(bench: Bench) -> Sequence[Column]:
    def of(size: int) -> Column:
        chosen = {"method": "ssldefender", "batch_size": size}
        return Column(f"batches of {size}", lambda encoder, seed: bench.purification(encoder, seed, chosen))

    return [of(size) for size in SIZES]


TABLE = comparison("table-11", encoders=_encoders, columns=_columns, paper=PAPER, remark=REMARK)
