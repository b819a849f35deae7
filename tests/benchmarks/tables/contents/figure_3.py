"""Figure 3: how many images were poisoned."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.contents.comparison import Column, comparison
from tests.benchmarks.tables.encoders import ZooEncoder

PAPER = "*The paper, Figure 3, is a picture: injection rates of 1 to 9 %, for BadEncoder 1 to 20 %, without figures.*"
REMARK = """Encoders of poisoned pre-training by their rate, a share of what the attack's own page says.
 Purified as in Table II. Give several zoos for several rates (`zoo/tables-cpu.yaml`)."""


def _encoders(bench: Bench) -> Sequence[ZooEncoder]:
    rated = [encoder for encoder in bench.backdoored if encoder.poison_rate is not None]
    return sorted(rated, key=lambda encoder: (encoder.attack_title, encoder.poison_rate))


def _columns(bench: Bench) -> Sequence[Column]:
    return [Column("after", lambda encoder, seed: bench.purification(encoder, seed, verified=True))]


TABLE = comparison(
    "figure-3",
    encoders=_encoders,
    columns=_columns,
    paper=PAPER,
    remark=REMARK,
    labels=(
        ("attack", lambda encoder: encoder.attack_title),
        ("rate", lambda encoder: f"{100 * (encoder.poison_rate or 0):g} %"),
    ),
)
