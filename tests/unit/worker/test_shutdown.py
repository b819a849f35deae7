"""How the process that runs an audit learns that it should stop."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.shutdown import announce_stop_file, request_stop, stop_watcher


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))


def test_a_request_reaches_a_watcher_made_before_it(tmp_path: Path) -> None:
    announce_stop_file(tmp_path / "stop")
    stopping = stop_watcher()
    assert not stopping()
    request_stop()
    assert stopping()


def test_an_orphan_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    announce_stop_file(tmp_path / "stop")
    # The test's own parent may be process 1, to which orphans are given.
    monkeypatch.setattr(os, "getppid", lambda: 4711)
    stopping = stop_watcher()
    assert not stopping()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    assert stopping()
