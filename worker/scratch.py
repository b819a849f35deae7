"""Folders for the files of running audits, removed at the end, or by the next worker when theirs was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder(root: Path) -> Iterator[Path]:
    """A new folder below ``root`` that only this user may enter.

    A locked file beside the folder says that its owner lives; the kernel drops the lock when the owner dies.

    Raises:
        OSError: ``root`` cannot be made, or belongs to somebody else.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise PermissionError(f"{root} belongs to another user")
    _remove_abandoned(root)
    lock_path, lock = _locked_file(root)
    folder = lock_path.with_suffix("")
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock_path.unlink(missing_ok=True)
        os.close(lock)


def _locked_file(root: Path) -> tuple[Path, int]:
    while True:
        path = root / f"{uuid.uuid4().hex}.lock"
        lock = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Between open and lock, somebody tidying up may have taken the file for abandoned and unlinked it.
        if os.fstat(lock).st_nlink > 0:
            return path, lock
        os.close(lock)


def _remove_abandoned(root: Path) -> None:
    for path in root.glob("*.lock"):
        try:
            lock = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink(missing_ok=True)
        finally:
            os.close(lock)
