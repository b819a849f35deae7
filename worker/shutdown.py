"""How a child process learns that the worker is being shut down.

A signal would not do: Celery keeps the signals of its children to itself. So the main process names a file in the
environment and makes it when it is told to stop; the heartbeat of a running audit looks for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_VARIABLE = "ENCODER_AUDIT_WORKER_STOP_FILE"


def announce_stop_file(path: Path) -> None:
    """Tell the children, by the environment they inherit, which file to look for."""
    os.environ[_VARIABLE] = str(path)


def request_stop() -> None:
    """Let all running audits stop at their next step, save their state and go back to the queue."""
    named = os.environ.get(_VARIABLE)
    if named:
        Path(named).touch()


def stop_watcher() -> Callable[[], bool]:
    """A question to ask now and then: should this process stop? Also yes when its parent is gone."""
    named = os.environ.get(_VARIABLE)
    parent = os.getppid()

    def stopping() -> bool:
        return os.getppid() != parent or (named is not None and Path(named).exists())

    return stopping
