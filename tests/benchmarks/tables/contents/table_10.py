"""Table X: clean images of another kind than the encoder was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.contents import four_attacks
from tests.benchmarks.tables.contents.comparison import Column, comparison, from_paper

PAPER = from_paper(
    "Table X",
    ["attack", "CIFAR-10", "STL-10", "GTSRB", "SVHN"],
    [
        ["SSL-Backdoor", "87.42 / 2.09", "79.58 / 15.24", "72.39 / 18.48", "80.13 / 11.82"],
        ["PoisonedEncoder", "88.73 / 0.79", "81.77 / 10.45", "76.20 / 16.62", "81.06 / 9.40"],
        ["CorruptEncoder", "87.50 / 0.96", "80.02 / 7.76", "76.93 / 10.03", "80.53 / 10.29"],
        ["BadEncoder", "84.08 / 1.89", "80.59 / 8.21", "73.47 / 6.60", "75.17 / 6.22"],
    ],
)
REMARK = """As many images of another set stand in for those of the encoder's own, in the detection and in the
unlearning; what is tested on stays the same. The paper exchanges a part of them and does not say how many."""
SURROGATES = {"gtsrb": "GTSRB", "tinyimagenet100": "100 classes of Tiny-ImageNet", "stl10": "STL-10", "svhn": "SVHN"}
"""Those that are there are used."""


def _columns(bench: Bench) -> Sequence[Column]:
    def instead(dataset: str, title: str) -> Column:
        return Column(
            title,
            lambda encoder, seed: bench.purification(encoder, seed, images=bench.clean(encoder, dataset=dataset)),
        )

    there = [instead(dataset, title) for dataset, title in SURROGATES.items() if bench.library.has(dataset)]
    return [Column("its own", lambda encoder, seed: bench.purification(encoder, seed)), *there]


TABLE = comparison("table-10", encoders=four_attacks.encoders, columns=_columns, paper=PAPER, remark=REMARK)
