"""Reading the members of a tar from anybody, checked first, read one by one, never extracted.

A tar may be a WebDataset shard. There the files of one sample have one name up to the first dot: ``cat/0001.jpg``,
``cat/0001.json``, ``cat/0001.cls``. What stands beside an image in this way is passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

from core.images.archive import (
    DAMAGED,
    MAX_MEMBER_BYTES,
    PIECE,
    TOO_LARGE,
    UnreadableMember,
    check_total,
    odd_name,
)
from core.images.decode import has_image_suffix
from core.images.tar_headers import BLOCK, TarEntry, is_header, read_entries


class TarMembers:
    """The files of an opened, checked tar, without those that stand beside an image."""

    def __init__(self, file: BinaryIO, entries: list[TarEntry]) -> None:
        self._file = file
        odd = {entry.name: odd_name(entry.name) for entry in entries}
        self.notes: tuple[str, ...] = ()
        self.rejected = tuple(sorted(filter(None, odd.values()), key=lambda image: image.name))
        entries = [entry for entry in entries if odd[entry.name] is None]
        images = {_sample(entry.name) for entry in entries if has_image_suffix(entry.name)}
        self._entries = {entry.name: entry for entry in entries if not _stands_beside(entry.name, images)}
        self._beside: dict[str, list[TarEntry]] = {}
        for entry in entries:
            if entry.name not in self._entries:
                self._beside.setdefault(_sample(entry.name), []).append(entry)

    def names(self) -> list[str]:
        """Paths inside the archive, sorted."""
        return sorted(self._entries)

    def beside(self, name: str) -> list[str]:
        """What stands beside the image ``name`` and is no name of its own here: the rest of its sample."""
        return [entry.name for entry in self._beside.get(_sample(name), [])]

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of one member, of whatever size, piece by piece.

        Raises:
            UnreadableMember: it is damaged.
        """
        entry = self._entries[name]
        for at in range(0, entry.size, PIECE):
            self._file.seek(entry.offset + at)
            piece = self._file.read(min(PIECE, entry.size - at))
            if len(piece) < min(PIECE, entry.size - at):
                raise UnreadableMember(DAMAGED)
            yield piece

    def read(self, name: str) -> bytes:
        """The bytes of one member.

        Raises:
            UnreadableMember: it is damaged or too large.
        """
        entry = self._entries.get(name) or next(each for each in self._beside[_sample(name)] if each.name == name)
        if entry.size > MAX_MEMBER_BYTES:
            raise UnreadableMember(TOO_LARGE)
        self._file.seek(entry.offset)
        data = self._file.read(entry.size)
        if len(data) < entry.size:
            raise UnreadableMember(DAMAGED)
        return data


def open_tar(file: BinaryIO) -> TarMembers:
    """The tar in ``file``, not compressed, after all its headers have been checked.

    Raises:
        UnsupportedInput: ``truncated_archive``, ``zip_bomb`` or ``unsafe_archive``.
    """
    length = file.seek(0, os.SEEK_END)
    entries = read_entries(file, length)
    check_total(sum(entry.size for entry in entries), length)
    return TarMembers(file, entries)


def is_tar(start: bytes) -> bool:
    """Whether a file with these first 512 bytes is a tar; one without members begins with its end, zeros."""
    return is_header(start) or (len(start) == BLOCK and not any(start))


def _sample(name: str) -> str:
    """The name up to the first dot of its last part: WebDataset's key."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.split(".", 1)[0]


def _stands_beside(name: str, images: set[str]) -> bool:
    has_suffix = "." in name.rpartition("/")[2]
    return has_suffix and not has_image_suffix(name) and _sample(name) in images
