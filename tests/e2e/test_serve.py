"""``encoder-audit serve`` while it runs: what it says, what it refuses, what it repairs, what others can reach."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import httpx
import psutil

from tests.e2e.conftest import COMMAND, Serving, await_, start_serving


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
    command = [COMMAND, "serve", "--home", str(tmp_path / "h"), "--port", port]
    third = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
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
