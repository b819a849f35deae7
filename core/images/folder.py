"""Reading the files of a folder by the names they have below it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from core.images.archive import MAX_MEMBER_BYTES, PIECE, TOO_LARGE, UnreadableMember
from core.types import RejectedImage

_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "icon\r", "icon\\r"})


class FolderMembers:
    """The files under ``root``, at any depth; links to folders are not followed."""

    rejected: tuple[RejectedImage, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        """Paths below the root with forward slashes, sorted."""
        found = (Path(folder, file) for folder, _, files in os.walk(self._root) for file in files)
        return sorted(path.relative_to(self._root).as_posix() for path in found)

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of one file, of whatever size, piece by piece.

        Raises:
            UnreadableMember: it cannot be read.
        """
        try:
            if not (self._root / name).is_file():
                raise UnreadableMember("not a regular file")
            with (self._root / name).open("rb") as file:
                while piece := file.read(PIECE):
                    yield piece
        except OSError as failure:
            raise UnreadableMember(failure.strerror or "cannot be read") from failure

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            UnreadableMember: it cannot be read or is too large.
        """
        path = self._root / name
        try:
            if not path.is_file():
                raise UnreadableMember("not a regular file")
            if path.stat().st_size > MAX_MEMBER_BYTES:
                raise UnreadableMember(TOO_LARGE)
            return path.read_bytes()
        except OSError as failure:
            raise UnreadableMember(failure.strerror or "cannot be read") from failure


def is_system_file(name: str) -> bool:
    """Whether a file is hidden, or one that an operating system leaves behind, or lies in such a folder."""
    return any(part.startswith(".") or part.lower() in _SYSTEM_FILES for part in name.split("/"))
