"""Keeps the service's processes running: starts them, starts again what ends, stops all of them in order."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from api.embedded.child import Child

_LOOK_SECONDS = 0.2
_STEADY_SECONDS = 30.0  # a child that ran so long has started well; its next restart is immediate
_LONGEST_PAUSE = 20.0

Report = Callable[[str], None]
"""Receives one line for the person at the terminal."""


@dataclass
class _Watch:
    """A child and its history of falling over."""

    child: Child
    started_at: float = 0.0
    restart_at: float | None = None
    falls: int = field(default=0)


class Supervisor:
    """Runs until a stop signal. ``engines`` run already and are only watched; ``servers`` are started, in order."""

    def __init__(self, engines: Sequence[Child], servers: Sequence[Child], report: Report) -> None:
        self._engines = [_Watch(child) for child in engines]
        self._servers = [_Watch(child) for child in servers]
        self._report = report
        self._stopping = threading.Event()

    def run(self, when_started: Callable[[], None]) -> None:
        """Start the servers, call ``when_started`` and watch until SIGINT, SIGTERM or SIGHUP; then stop the servers.

        Call it from the main thread: children die with the thread that started them.
        """
        with self._stop_signals():
            try:
                for watch in self._servers:
                    self._start(watch)
                when_started()
                while not self._stopping.wait(_LOOK_SECONDS):
                    for watch in (*self._engines, *self._servers):
                        self._look_after(watch)
            finally:
                self._stop_servers()

    @property
    def stopping(self) -> bool:
        """Whether a stop signal has come."""
        return self._stopping.is_set()

    def _start(self, watch: _Watch) -> None:
        watch.child.start()
        watch.started_at = time.monotonic()
        watch.restart_at = None

    def _look_after(self, watch: _Watch) -> None:
        if watch.child.running():
            return
        now = time.monotonic()
        if watch.restart_at is None:
            watch.child.kill_group()  # its children must not go on without it
            watch.falls = 1 if now - watch.started_at > _STEADY_SECONDS else watch.falls + 1
            pause = 0.0 if watch.falls == 1 else min(0.5 * 2**watch.falls, _LONGEST_PAUSE)
            watch.restart_at = now + pause
            self._report(f"{watch.child.name} ended ({_ending(watch.child.exit_code())}); {_plan(pause)}")
        if now >= watch.restart_at:
            self._start(watch)

    def _stop_servers(self) -> None:
        """All are asked at once: a worker may need its time to save an audit's state."""
        threads = [threading.Thread(target=watch.child.stop) for watch in self._servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @contextmanager
    def _stop_signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            if not self._stopping.is_set():
                self._report("stopping; running audits are saved and go on at the next start")
            self._stopping.set()

        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.signal(number, stop) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"


def _plan(pause: float) -> str:
    return "starting it again" if pause == 0 else f"starting it again in {pause:.0f} s"
