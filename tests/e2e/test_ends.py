"""How ``encoder-audit serve`` ends: by force and by Ctrl-C, nothing goes on running and nothing stored is lost."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.e2e.conftest import Serving, await_, await_ready, start_serving

OLD_CHECKPOINT = b"\x80\x02" + bytes(9)  # passes the API's gate


def test_killed_and_started_again_and_stopped(service_home: Path, tmp_path: Path) -> None:
    first = start_serving(service_home / "ends", tmp_path / "first.log")
    try:
        await_ready(first)
        kept = first.http.post("/encoders", files={"file": ("w.pt", OLD_CHECKPOINT)})
        assert kept.status_code == 201
        await_end_of_family(first, signal.SIGKILL)
    finally:
        first.process.kill()

    again = start_serving(service_home / "ends", tmp_path / "again.log")
    try:
        await_ready(again)
        assert again.http.get(kept.headers["location"]).json() == kept.json()
        await_end_of_family(again, signal.SIGINT)
        assert again.process.returncode == 0
        assert "Traceback" not in again.said()
    finally:
        again.process.kill()


def await_end_of_family(serving: Serving, number: signal.Signals) -> None:
    """Send ``number`` to the supervisor and wait until it and all its descendants are gone."""
    family = serving.descendants()
    assert len(family) > 5
    serving.stop(number)
    await_(lambda: not any(each.is_running() for each in family), "all processes are gone")
