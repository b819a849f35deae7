"""One core stays free, and an affinity counts."""

from __future__ import annotations

import os

import pytest

from core.threads import spare_threads


@pytest.mark.parametrize(
    ("cores", "shares", "threads"), [(1, 1, 1), (2, 1, 1), (8, 1, 7), (8, 2, 3), (2, 4, 1)], ids=str
)
def test_one_core_is_left(monkeypatch: pytest.MonkeyPatch, cores: int, shares: int, threads: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert spare_threads(shares) == threads
