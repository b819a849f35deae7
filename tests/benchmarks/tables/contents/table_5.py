"""Table V: triggers that are no patches."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.contents.comparison import Column, comparison, from_paper
from tests.benchmarks.tables.encoders import ZooEncoder

PAPER = from_paper(
    "Table V, CIFAR-10",
    ["trigger", "before", "after"],
    [["spectral", "90.83 / 89.79", "91.72 / 0.62"], ["random noise", "82.41 / 92.17", "80.28 / 1.04"]],
)
REMARK = "Every trigger over the whole image, by whatever attack; purified as in Table II. The paper names no attack."
KINDS = ("spectral", "noise", "blended")


def _encoders(bench: Bench) -> Sequence[ZooEncoder]:
    return [encoder for kind in KINDS for encoder in bench.backdoored if encoder.trigger == kind]


def _columns(bench: Bench) -> Sequence[Column]:
    return [Column("after", lambda encoder, seed: bench.purification(encoder, seed, verified=True))]


TABLE = comparison(
    "table-5",
    encoders=_encoders,
    columns=_columns,
    paper=PAPER,
    remark=REMARK,
    labels=(("trigger", lambda encoder: encoder.trigger), ("attack", lambda encoder: encoder.attack_title)),
)
