"""The embedded service for the length of a ``with``: started as a user would start it, spoken to over HTTP only."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

START_SECONDS = 120.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.5
TERMINAL = ("succeeded", "failed", "cancelled")


class ServiceFailed(Exception):
    """The service did not start, or an audit did not succeed; the message says which and why."""


@contextmanager
def running_service() -> Iterator[httpx.Client]:
    """A client of a service in a folder of its own; service and folder are gone at the end, whatever happened.

    Raises:
        ServiceFailed: it did not become ready; the message ends with the last lines of its log.
    """
    with tempfile.TemporaryDirectory(prefix="encoder-audit-demo-") as home:
        log = Path(home) / "serve.log"
        url = f"http://127.0.0.1:{_free_port()}"
        command = [sys.executable, "-m", "core.cli", "serve", "--home", str(Path(home) / "home"), "--port"]
        with log.open("wb") as output:
            process = subprocess.Popen([*command, url.rpartition(":")[2]], stdout=output, stderr=subprocess.STDOUT)
        try:
            with httpx.Client(base_url=url, timeout=60) as client:
                _wait_until_ready(client, process, log)
                yield client
        finally:
            _stop(process)


def run_audit(
    client: httpx.Client, console: Console, title: str, *, kind: str, encoder: Path, images: Path
) -> dict[str, Any]:
    """``POST /audits`` with both files, follow it with a bar, and return the finished audit.

    Raises:
        ServiceFailed: the service refused it, or it ended otherwise than well.
    """
    with encoder.open("rb") as weights, images.open("rb") as archive:
        files = {"encoder": (encoder.name, weights), "images": (images.name, archive)}
        answer = client.post("/audits", data={"kind": kind}, files=files)
    if answer.status_code != 202:
        raise ServiceFailed(f"POST /audits was answered by {answer.status_code}: {answer.text}")
    address = answer.headers["Location"]
    console.print(f"[dim]POST /audits  {kind} {encoder.name}  ->  202, {address}[/]", highlight=False)
    audit = _follow(client, console, title, address)
    if audit["state"] != "succeeded":
        raise ServiceFailed(f"The audit of {encoder.name} {audit['state']}: {audit.get('failure')}")
    return audit


def download(client: httpx.Client, address: str, path: Path, *, accept: str = "*/*") -> None:
    """Stream what is at ``address`` into the file ``path``."""
    with client.stream("GET", address, headers={"Accept": accept}, follow_redirects=True) as answer:
        answer.raise_for_status()
        with path.open("wb") as file:
            for chunk in answer.iter_bytes():
                file.write(chunk)


def _follow(client: httpx.Client, console: Console, title: str, address: str) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    shown: str | None = None
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=1.0)
        while True:
            answer = client.get(address)
            answer.raise_for_status()
            audit: dict[str, Any] = answer.json()
            stage = audit.get("stage") or audit["state"]
            bar.update(task, completed=audit["progress"], description=f"{title}: {stage}")
            if not console.is_terminal and stage != shown:
                console.print(f"  {audit['progress']:4.0%}  {stage}", highlight=False)
                shown = stage
            if audit["state"] in TERMINAL:
                return audit
            time.sleep(POLL_SECONDS)


def _wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.TransportError):  # nobody listens yet
            if client.get("/readyz").status_code == 200:
                return
        time.sleep(POLL_SECONDS)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    raise ServiceFailed(f"The service did not become ready. The end of its log:\n{tail}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C would: the service stops its engines itself. Only one that hangs is killed."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
