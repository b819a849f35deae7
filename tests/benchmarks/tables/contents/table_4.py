"""Table IV: the encoders of Table III on traffic signs, which they were not trained on."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.tables.bench import MOVED_BY, TRANSFER, Bench
from tests.benchmarks.tables.contents import table_3
from tests.benchmarks.tables.contents.comparison import Column, comparison, from_paper
from tests.benchmarks.tables.encoders import ZooEncoder

PAPER = from_paper(
    "Table IV, BadEncoder, CIFAR-10 to GTSRB",
    ["attack", "without", "FT", "FP", "NC", "NAD", "SSL-KD", "SSLDefender"],
    [
        [
            "BadEncoder",
            "82.00 / 98.80",
            "44.78 / 0.08",
            "44.94 / 1.64",
            "74.24 / 4.68",
            "54.46 / 1.41",
            "52.5 / 0.70",
            "79.58 / 0.63",
        ]
    ],
)

REMARK = """The encoders of Table III that an attack was planted into, with a classifier of German traffic signs
on top. The target is the sign that most triggered images are taken for before purification. *Of views*: `ssldefender`
with `statistics_from=views`."""

VIEWS = {"method": "ssldefender", "statistics_from": "views"}


def _columns(bench: Bench) -> Sequence[Column]:
    of_views = Column("of views", lambda encoder, seed: bench.purification(encoder, seed, VIEWS))
    return [*table_3.columns(bench), of_views]


def _moved(bench: Bench) -> Sequence[ZooEncoder]:
    return [encoder for encoder in bench.of_attack(*MOVED_BY) if TRANSFER in bench.evaluated_on(encoder)]


TABLE = comparison("table-4", encoders=_moved, columns=_columns, paper=PAPER, remark=REMARK, dataset=TRANSFER)
