"""``encoder-audit serve`` as a user starts it, in a process of its own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from api.embedded.home import free_ports

COMMAND = str(Path(sys.executable).with_name("encoder-audit"))
_ENGINES = ("DATABASE_URL", "REDIS_URL", "S3_ENDPOINT_URL")


@dataclass
class Serving:
    """A running ``encoder-audit serve``."""

    process: subprocess.Popen[bytes]
    home: Path
    url: str
    http: httpx.Client
    log: Path

    def said(self) -> str:
        """Everything it has written so far."""
        return self.log.read_text(errors="replace")

    def descendants(self) -> list[psutil.Process]:
        """All its processes."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, *words: str) -> psutil.Process:
        """The direct child whose command line has all of ``words``."""
        for each in psutil.Process(self.process.pid).children():
            try:
                command = each.cmdline()
            except psutil.NoSuchProcess:  # it has just ended, and may be a zombie still
                continue
            if set(words) <= set(command):
                return each
        raise LookupError(f"no child with {words}")

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop it as Ctrl-C does; its exit status."""
        self.process.send_signal(number)
        return self.process.wait(300)


def await_(condition: Callable[[], bool], what: str, seconds: float = 400) -> None:
    """Return when ``condition`` holds; fail with ``what`` otherwise."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        select.select([], [], [], 0.1)  # let others run


def start_serving(home: Path, log: Path, *options: str, environment: dict[str, str] | None = None) -> Serving:
    """Start it on a free port; :func:`await_ready` says when it takes audits."""
    port = free_ports(1)[0]
    inherited = {name: value for name, value in os.environ.items() if name not in _ENGINES}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [COMMAND, "serve", "--home", str(home), "--port", str(port), *options],
            stdout=output,
            stderr=output,
            env={**inherited, "LEASE_SECONDS": "5", "SWEEP_SECONDS": "1", **(environment or {})},
        )
    url = f"http://127.0.0.1:{port}"
    return Serving(process, home, url, httpx.Client(base_url=url, timeout=60), log)


def await_ready(serving: Serving) -> None:
    """Return when it has said that it is ready."""

    def ready() -> bool:
        assert serving.process.poll() is None, serving.said()
        return "ready after" in serving.said()

    await_(ready, "the service gets ready")


@pytest.fixture(scope="session")
def serving(service_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One service for all tests that leave it running; it must end well when it is told to."""
    running = start_serving(service_home / "serve", tmp_path_factory.mktemp("serve") / "log")
    try:
        await_ready(running)
        yield running
        assert running.stop(signal.SIGTERM) == 0, running.said()
    finally:
        running.process.kill()
        running.http.close()
