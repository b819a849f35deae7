"""Writing image files into a folder, a zip or a tar, one at a time: the same files in the same order, the same bytes.

All files carry one and the same time, so that nothing but their content tells them apart.
"""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

Write: TypeAlias = Callable[[str, bytes], None]
"""Adds one file: its name with forward slashes, and its bytes."""

TarMode = Literal["w", "w:gz", "w:bz2", "w:xz"]

_TIME = (2020, 1, 1, 0, 0, 0)
_EPOCH_SECONDS = 1_577_836_800
"""The same moment, for files in folders and tars."""


@contextmanager
def into_zip(path: Path) -> Iterator[Write]:
    """A new zip at ``path``; images hardly compress, so they are stored."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def write(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            archive.writestr(entry, data)

        yield write


@contextmanager
def into_folder(path: Path) -> Iterator[Write]:
    """A new folder at ``path``; names with slashes make folders below it."""
    path.mkdir()

    def write(name: str, data: bytes) -> None:
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        os.utime(file, (_EPOCH_SECONDS, _EPOCH_SECONDS))

    yield write


@contextmanager
def into_tar(path: Path, mode: TarMode = "w") -> Iterator[Write]:
    """A new tar at ``path``, compressed as ``mode`` says."""
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:

        def write(name: str, data: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(data), _EPOCH_SECONDS, 0o644
            archive.addfile(entry, io.BytesIO(data))

        yield write
