"""Where files lie while they arrive: a folder per request, on disk, gone when the request ends however it ends."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from api.errors import RequestProblem, input_problem

_PREFIX = "encoder-audit-upload-"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LONGEST_NAME = 200


@dataclass(frozen=True)
class ArrivedFile:
    """A complete file in quarantine. ``filename`` is the client's, for display only; ``path`` is ours."""

    filename: str
    path: Path
    size: int
    sha256: str


class ArrivingFile:
    """Counts and hashes what it writes, and refuses to grow beyond ``limit`` bytes."""

    def __init__(self, folder: Path, name: str, filename: str, limit: int) -> None:
        self._path = folder / name
        self._name = name
        self._filename = filename
        self._limit = limit
        self._size = 0
        self._digest = hashlib.sha256()
        self._file: BinaryIO = self._path.open("xb")

    def write(self, data: bytes | memoryview) -> None:
        """Append ``data``.

        Raises:
            RequestProblem: 413 beyond the limit.
        """
        self._size += len(data)
        if self._size > self._limit:
            raise too_large(self._name, self._limit)
        self._digest.update(data)
        with _full_disk_told():
            self._file.write(data)

    def finish(self) -> ArrivedFile:
        """Close it; the file is complete."""
        with _full_disk_told():
            self._file.close()
        return ArrivedFile(self._filename, self._path, self._size, self._digest.hexdigest())

    def close(self) -> None:
        """Close it, complete or not."""
        self._file.close()


@contextmanager
def quarantine(directory: Path) -> Iterator[Path]:
    """A private folder below ``directory`` for one request; the process id in its name tells whose it is."""
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=directory))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(directory: Path) -> None:
    """Remove the folders of processes that were killed in the middle of an upload."""
    for folder in directory.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).split("-")[0]
        if owner.isdecimal() and folder.stat().st_uid == os.geteuid() and not _alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def displayable(filename: str, fallback: str) -> str:
    """The last part of a client's file name without control or direction characters; never used as a path."""
    last = _CONTROL.sub("", filename.replace("\\", "/").split("/")[-1]).strip()
    return last[-_LONGEST_NAME:] or fallback


def too_large(name: str, limit: int) -> RequestProblem:
    """The answer to a file or field beyond its limit."""
    return input_problem(
        "too_large",
        f"/{name}",
        f"'{name}' is larger than this service accepts.",
        expected=f"at most {limit} bytes",
        action="Send a smaller file, or ask whoever runs the service to raise the limit.",
        status=413,
    )


@contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RequestProblem(
            507,
            "no_room",
            "There is no room left for uploads on the service's disk. Nothing was kept; try again later.",
        ) from error


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
