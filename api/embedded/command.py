"""``encoder-audit serve``: the whole service as one tree of processes."""

from __future__ import annotations

import os
import shutil
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import httpx
import typer

from api.embedded.child import Child
from api.embedded.errors import LaunchError
from api.embedded.home import default_home, port_is_free, private_folder
from api.embedded.stack import Stack, start_stack
from api.embedded.supervisor import Supervisor

_START_SECONDS = 300.0
_EXIT_FAILED = 2


class LogFormat(StrEnum):
    """Form of the log lines of API and workers."""

    TEXT = "text"
    JSON = "json"


def serve(
    home: Annotated[
        Path | None, typer.Option(help="Folder for everything the service keeps.", show_default="~/.encoder-audit")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the HTTP service.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; there is no login, so keep it local.")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Audits at a time; each gets its share of the CPU.")] = 1,
    device: Annotated[str, typer.Option(help="Where audits compute: auto, cpu or cuda:N.")] = "auto",
    log_format: Annotated[LogFormat, typer.Option(help="Form of the log lines.")] = LogFormat.TEXT,
) -> None:
    """Run the service here: database, broker, object storage, API and worker, all from installed wheels.

    DATABASE_URL, REDIS_URL and S3_ENDPOINT_URL replace one engine each. Stop with Ctrl-C; running audits go on at the
    next start.
    """
    try:
        _serve(home or default_home(), host, port, workers, device, log_format)
    except LaunchError as error:
        _say(str(error))
        raise typer.Exit(_EXIT_FAILED) from error
    except KeyboardInterrupt as error:  # before the supervisor took over the signals
        raise typer.Exit(130) from error


def _serve(home: Path, host: str, port: int, workers: int, device: str, log_format: LogFormat) -> None:
    if not port_is_free(port, host):
        raise LaunchError(
            f"Port {port} of {host} cannot be listened on: something else uses it, or the address is not this "
            "machine's. Choose another one with --port."
        )
    began = time.monotonic()
    _say(f"starting the engines in {home} ...")
    with start_stack(home) as stack:
        servers = _servers(stack, host, port, workers, device, log_format)
        supervisor = Supervisor(stack.engines, servers, _say)

        def announce() -> None:
            url = _url(host, port)
            _wait_for(url, servers, supervisor)
            if not supervisor.stopping:
                _say(f"ready after {time.monotonic() - began:.1f} s at {url} (documentation: {url}/docs)")
                _say(f"try: curl {url}/audits -F kind=purify -F encoder=@encoder.safetensors -F images=@images.zip")

        supervisor.run(announce)
    _say("stopped")


def _servers(stack: Stack, host: str, port: int, workers: int, device: str, log_format: LogFormat) -> tuple[Child, ...]:
    uploads = private_folder(stack.home / "uploads")
    scratch = stack.home / "scratch"
    if scratch.exists():  # of workers that were killed; we hold the home's lock, so nobody uses it
        shutil.rmtree(scratch)
    environment = {
        **os.environ,
        **stack.environment(),
        "LOG_FORMAT": log_format.value,
        "UPLOAD_DIRECTORY": str(uploads),
        "WORKER_SCRATCH": str(private_folder(scratch)),
        "WORKER_DEVICE": device,
        "WORKER_SLOTS": str(workers),
        "DATABASE_POOL_SIZE": os.environ.get("DATABASE_POOL_SIZE", "20"),
    }
    api = Child(
        name="api",
        argv=[sys.executable, "-P", "-m", "api.server", "--host", host, "--port", str(port)],
        environment=environment,
        directory=stack.home,
    )
    worker = Child(
        name="worker",
        argv=[sys.executable, "-P", "-m", "worker"],
        environment={**environment, "DATABASE_POOL_SIZE": "2"},
        directory=stack.home,
        stop_seconds=40.0,  # a running audit saves its state first
    )
    return api, worker


def _wait_for(url: str, servers: tuple[Child, ...], supervisor: Supervisor) -> None:
    """Return when the API can take audits.

    Raises:
        LaunchError: one of ``servers`` ended instead, or it takes too long.
    """
    deadline = time.monotonic() + _START_SECONDS
    while not supervisor.stopping:
        try:
            if httpx.get(f"{url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            reason = "it does not answer"
        else:
            reason = "it is not ready"
        ended = next((child for child in servers if not child.running()), None)
        if ended is not None:
            raise LaunchError(f"The {ended.name} ended as soon as it was started; its own words are above.")
        if time.monotonic() > deadline:
            raise LaunchError(f"The API did not become ready within {_START_SECONDS:.0f} s: {reason}.")
        time.sleep(0.1)


def _url(host: str, port: int) -> str:
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{reached}:{port}"


def _say(line: str) -> None:
    typer.echo(f"encoder-audit: {line}", err=True)
