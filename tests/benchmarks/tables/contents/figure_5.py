"""Figure 5: architectures."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.contents.comparison import Column, comparison
from tests.benchmarks.tables.encoders import ZooEncoder

PAPER = """*The paper, Figure 5, is a picture of ResNet-18, ShuffleNetV2, MobileNetV2 and ResNet-34 under four attacks;
its text says that every ASR stays below 9 %.*"""
REMARK = "All backdoored encoders by architecture, purified as in Table II."


def _encoders(bench: Bench) -> Sequence[ZooEncoder]:
    return sorted(bench.backdoored, key=lambda encoder: (encoder.architecture, encoder.attack_title))


def _columns(bench: Bench) -> Sequence[Column]:
    return [Column("after", lambda encoder, seed: bench.purification(encoder, seed, verified=True))]


TABLE = comparison(
    "figure-5",
    encoders=_encoders,
    columns=_columns,
    paper=PAPER,
    remark=REMARK,
    labels=(
        ("architecture", lambda encoder: encoder.architecture),
        ("attack", lambda encoder: encoder.attack_title),
        ("trigger", lambda encoder: encoder.trigger),
    ),
)
