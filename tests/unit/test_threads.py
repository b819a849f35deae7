"""One core stays free, and an affinity counts."""

from __future__ import annotations

import os

import pytest
import torch

from core.cli.audit_run import use_spare_threads
from core.threads import spare_threads


@pytest.mark.parametrize(
    ("cores", "shares", "threads"), [(1, 1, 1), (2, 1, 1), (8, 1, 7), (8, 2, 3), (2, 4, 1)], ids=str
)
def test_one_core_is_left(monkeypatch: pytest.MonkeyPatch, cores: int, shares: int, threads: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert spare_threads(shares) == threads


def test_the_environment_decides_before(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    use_spare_threads()
    assert chosen == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    use_spare_threads()
    assert chosen == [2]
