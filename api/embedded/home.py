"""The folder that holds everything the embedded service keeps, and the lock that lets only one service use it."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api.embedded.errors import LaunchError

_SOCKET_PATH_LIMIT = 100  # bytes; the kernel allows 108 on Linux and 104 on macOS, file name included


def default_home() -> Path:
    """``$XDG_DATA_HOME/encoder-audit`` where that is set, else ``~/.encoder-audit``."""
    data = os.environ.get("XDG_DATA_HOME")
    return Path(data) / "encoder-audit" if data else Path.home() / ".encoder-audit"


@contextmanager
def claimed_home(home: Path) -> Iterator[Path]:
    """Create ``home`` if need be and hold its lock; yields the absolute path.

    A folder that exists keeps its permissions. One that we make is private to us, except that root makes it
    traversable (not readable) so that the unprivileged account of PostgreSQL reaches its own folder inside.

    Raises:
        LaunchError: another service uses it, or it cannot be written.
    """
    home = home.expanduser().absolute()
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        if not home.exists():
            home.mkdir(mode=0o700)
            if os.geteuid() == 0:
                home.chmod(0o711)
        lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise LaunchError(
            f"The home folder {home} cannot be used: {error.strerror}. Choose another one with --home."
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            raise LaunchError(
                f"Another encoder-audit service (process {owner}) already uses {home}. "
                "Stop it first, or start this one with another --home."
            ) from error
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield home
    finally:
        os.close(lock)


def private_folder(path: Path) -> Path:
    """Create ``path`` for us alone if it is missing; returns it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def write_private(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, readable by us alone, all or nothing."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    Path(temporary).replace(path)


def remembered(path: Path) -> dict[str, Any]:
    """The JSON object kept in ``path``; empty when there is none yet."""
    return dict(json.loads(path.read_text())) if path.exists() else {}


def new_secret() -> str:
    """192 random bits, safe in a URL, a shell and a configuration file."""
    return secrets.token_hex(24)


def free_ports(count: int) -> list[int]:
    """``count`` different TCP ports of 127.0.0.1 that nobody listened on a moment ago."""
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on ``host``:``port`` now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def fits_a_socket(folder: Path, name: str) -> bool:
    """Whether a Unix socket called ``name`` in ``folder`` stays within the kernel's path limit."""
    return len(os.fsencode(folder / name)) <= _SOCKET_PATH_LIMIT
