"""One child process of the service: started in its own process group, tied to its parent's life, stopped with patience.

On Linux the kernel sends ``death_signal`` when the thread that started the child dies (``PR_SET_PDEATHSIG``), so a
``kill -9`` of the supervisor leaves nothing behind. Children must therefore be started from a thread that lives as long
as they should: the main thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
# Loaded before any fork: between fork and exec nothing may allocate or import.
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Account:
    """An unprivileged account of the system to run a child as."""

    uid: int
    gid: int


@dataclass
class Child:
    """A command that can be started, watched, stopped and started again.

    ``log`` receives its output (appended); None lets it write to the supervisor's own output. ``account`` is the
    unprivileged account to drop to, None to stay who we are.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    directory: Path
    log: Path | None = None
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Start the process; the previous one must have ended.

        Raises:
            OSError: when the program cannot be executed.
        """
        output = None if self.log is None else _open_log(self.log)
        try:
            self._process = subprocess.Popen(
                list(self.argv),
                env=dict(self.environment),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output is not None else None,
                start_new_session=True,
                user=self.account.uid if self.account else None,
                group=self.account.gid if self.account else None,
                extra_groups=[] if self.account else None,
                preexec_fn=_die_with_parent(os.getpid(), self.death_signal),
            )
        finally:
            if output is not None:
                os.close(output)

    @property
    def pid(self) -> int | None:
        """The process id, None before the first start."""
        return self._process.pid if self._process else None

    def exit_code(self) -> int | None:
        """None while it runs; its exit code (negative: the signal that ended it) afterwards."""
        return self._process.poll() if self._process else None

    def running(self) -> bool:
        """Whether the process exists."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Ask it to stop, wait ``stop_seconds``, then kill its whole process group."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):  # then the group is killed just below
                self._process.wait(self.stop_seconds)
        self.kill_group()
        self._process.wait()

    def kill_group(self) -> None:
        """Kill whatever is left of its process group, so that no orphan goes on working after its parent died."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # nobody is left; macOS answers EPERM for a group of zombies


def _open_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def _die_with_parent(parent: int, death_signal: signal.Signals) -> Callable[[], None] | None:
    """The function to call between fork and exec; None where the platform has no such promise."""
    if _LIBC is None:
        return None
    libc = _LIBC

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before the promise was made
            os._exit(1)

    return tie
