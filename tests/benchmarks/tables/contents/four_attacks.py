"""The four attacks of the paper's ablations, one encoder each: those of them that the zoo has."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.encoders import ZooEncoder

ATTACKS = ("ssl-backdoor", "poisoned-encoder", "corrupt-encoder", "bad-encoder")


def encoders(bench: Bench) -> Sequence[ZooEncoder]:
    return bench.representatives(ATTACKS)
