"""Table III: purification methods side by side."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.contents.comparison import Column, comparison, from_paper

CONTROL = "random-triggers"
"""Compared in Table VII."""

PAPER = from_paper(
    "Table III, CIFAR-10, BYOL",
    ["attack", "without", "FT", "FP", "NC", "NAD", "SSLDefender"],
    [
        [
            "SSL-Backdoor",
            "89.40 / 30.93",
            "40.57 / 9.49",
            "49.77 / 10.52",
            "70.26 / 8.40",
            "53.59 / 4.33",
            "87.42 / 2.09",
        ],
        [
            "PoisonedEncoder",
            "89.40 / 32.45",
            "49.93 / 8.24",
            "52.14 / 8.56",
            "62.45 / 15.26",
            "57.74 / 4.50",
            "88.73 / 0.79",
        ],
        [
            "CorruptEncoder",
            "89.80 / 31.91",
            "50.39 / 8.08",
            "52.43 / 11.15",
            "65.25 / 4.26",
            "80.93 / 2.51",
            "87.5 / 0.96",
        ],
        [
            "BadEncoder",
            "83.20 / 98.99",
            "50.17 / 13.32",
            "59.75 / 17.62",
            "66.38 / 14.26",
            "60.17 / 7.24",
            "84.08 / 1.89",
        ],
    ],
)

REMARK = """ACC / ASR in per cent. Every method gets the same clean images and, where it uses triggers, those of the
same detection by `ssldefender`; each is run once, without a second detection. *purify* is the command: verified, up
to three rounds. *Left as given*: nothing was found, so there was nothing to unlearn."""


def columns(bench: Bench) -> Sequence[Column]:
    """Every purification method once, and the whole command."""

    def once(method: str) -> Column:
        return Column(method, lambda encoder, seed: bench.purification(encoder, seed, {"method": method}))

    methods = [once(method) for method in bench.purification_methods if method != CONTROL]
    return [*methods, Column("purify", lambda encoder, seed: bench.purification(encoder, seed, verified=True))]


TABLE = comparison("table-3", encoders=lambda bench: bench.backdoored, columns=columns, paper=PAPER, remark=REMARK)
