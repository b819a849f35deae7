"""The life of ``encoder-audit serve``: start, refuse, restart, stop, and nothing left running."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from tests.e2e.conftest import Serving, await_, await_ready, start_serving


def test_it_says_where_it_is_and_how_to_use_it(serving: Serving) -> None:
    said = serving.said()
    assert serving.url in said
    assert "curl" in said
    assert "-F encoder=@" in said
    assert serving.http.get("/readyz").json()["status"] == "ok"
    for secret in ("redis://:", "secret"):
        assert secret not in said.replace("redis://:**@", "")


def test_a_second_one_on_the_same_home_or_port_is_told_why(serving: Serving, tmp_path: Path) -> None:
    second = start_serving(serving.home, tmp_path / "second.log")
    assert second.process.wait(60) == 2
    assert f"process {serving.process.pid}" in second.said()
    assert "--home" in second.said()

    port = serving.url.rsplit(":", 1)[1]
    command = [str(Path(sys.executable).with_name("encoder-audit")), "serve", "--home", str(tmp_path / "h")]
    third = subprocess.run([*command, "--port", port], capture_output=True, text=True, timeout=60, check=False)
    assert third.returncode == 2
    assert "--port" in third.stderr
    assert "Traceback" not in third.stderr
    assert not (tmp_path / "h").exists()
    assert serving.http.get("/readyz").status_code == 200


def test_what_is_killed_is_started_again(serving: Serving) -> None:
    for words in (("-m", "worker"), ("-m", "api.server")):
        before = serving.child(*words)
        before.kill()
        await_(lambda words=words, before=before: replaced(serving, words, before.pid), f"{words} is replaced")
    await_(lambda: answers(serving), "the API answers again")
    engine = next(each for each in psutil.Process(serving.process.pid).children() if "postgres" in each.name())
    engine.kill()
    await_(lambda: answers(serving) and not engine.is_running(), "PostgreSQL is back")
    assert "starting it again" in serving.said()


def replaced(serving: Serving, words: tuple[str, ...], old: int) -> bool:
    try:
        return serving.child(*words).pid != old
    except LookupError:
        return False


def answers(serving: Serving) -> bool:
    try:
        return serving.http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stop_signal_ends_every_process(number: signal.Signals, serving: Serving) -> None:
    family = serving.descendants()
    assert len(family) > 5
    assert serving.stop(number) == 0
    await_(lambda: not any(each.is_running() for each in family), "all processes are gone")
    assert "Traceback" not in serving.said()


def test_after_kill_9_nothing_goes_on_and_nothing_is_lost(serving: Serving, tmp_path: Path) -> None:
    content = bytes(9)  # no encoder; the gate wants one, so use what passes it: an old checkpoint's first bytes
    kept = serving.http.post("/encoders", files={"file": ("w.pt", b"\x80\x02" + content)})
    assert kept.status_code == 201
    family = serving.descendants()
    serving.process.kill()
    serving.process.wait(30)
    await_(lambda: not any(each.is_running() for each in family), "all processes are gone")
    again = start_serving(serving.home, tmp_path / "again.log")
    try:
        await_ready(again)
        assert again.http.get(kept.headers["location"]).json() == kept.json()
    finally:
        again.stop()


def test_the_home_is_private(serving: Serving) -> None:
    for secret in ("valkey/access.json", "valkey/valkey.conf", "s3/access.json", "s3/weed.options"):
        assert stat.S_IMODE((serving.home / secret).stat().st_mode) == 0o600
    for folder in ("logs", "postgres", "s3", "valkey", "uploads", "scratch"):
        assert stat.S_IMODE((serving.home / folder).stat().st_mode) == 0o700
    assert not stat.S_IMODE(serving.home.stat().st_mode) & 0o066


def test_engines_listen_on_this_machine_only(serving: Serving) -> None:
    for each in psutil.Process(serving.process.pid).children(recursive=True):
        for connection in each.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::1"), each.cmdline()
