"""Reading the members of a zip from anybody: checked first, read one by one, never extracted to disk."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from core.images.archive import (
    DAMAGED,
    MAX_MEMBER_BYTES,
    MAX_RATIO,
    PIECE,
    RATIO_FLOOR_BYTES,
    TOO_LARGE,
    UnreadableMember,
    bomb,
    broken,
    check_count,
    check_name,
    check_names_differ,
    check_total,
    odd_name,
    refuse,
    shown,
    unsafe,
)

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, struct.error, EOFError, NotImplementedError, UnicodeError)


class ZipMembers:
    """The files of an opened, checked zip."""

    def __init__(self, archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> None:
        self._archive = archive
        odd = {entry.orig_filename: odd_name(entry.orig_filename) for entry in entries}
        plain = [entry for entry in entries if odd[entry.orig_filename] is None]
        check_names_differ([entry.filename for entry in plain])
        self._entries = {entry.filename: entry for entry in plain}
        self.notes: tuple[str, ...] = ()
        self.rejected = tuple(sorted(filter(None, odd.values()), key=lambda image: image.name))

    def names(self) -> list[str]:
        """Paths inside the archive, sorted."""
        return sorted(self._entries)

    def size(self, name: str) -> int:
        """The unpacked bytes that one member declares."""
        return self._entries[name].file_size

    def read(self, name: str) -> bytes:
        """The bytes of one member.

        Raises:
            UnreadableMember: it is damaged or too large.
        """
        size = self.size(name)
        if size > MAX_MEMBER_BYTES:
            raise UnreadableMember(TOO_LARGE)
        with damage_named(), self.open(name) as member:
            # One byte more than declared shows a lie; the library stops at the declared size and checks the CRC.
            return member.read(size + 1)

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of one member, of whatever size, piece by piece.

        Raises:
            UnreadableMember: it is damaged.
        """
        with damage_named(), self.open(name) as member:
            while piece := member.read(PIECE):
                yield piece

    def open(self, name: str) -> IO[bytes]:
        """One member as a stream, of whatever size; read it inside :func:`damage_named`."""
        return self._archive.open(self._entries[name])


@contextmanager
def damage_named() -> Iterator[None]:
    """Turn what the zip library raises on a damaged member into ``UnreadableMember``."""
    try:
        yield
    except (*_BROKEN, zlib.error, OSError, ValueError) as failure:
        raise UnreadableMember(DAMAGED) from failure


@contextmanager
def open_zip(path: Path) -> Iterator[ZipMembers]:
    """The zip at ``path``, after all its headers have been checked.

    Raises:
        UnsupportedInput: ``truncated_archive``, ``encrypted_archive``, ``zip_bomb`` or ``unsafe_archive``.
    """
    with path.open("rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        except _BROKEN as failure:
            broken(f"a damaged or cut-off zip ({failure})", "zip")
        with archive:
            # Not ``is_dir``, which fails on an entry without a name.
            entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
            check_count(len(entries))
            for entry in entries:
                _check_entry(entry)
            check_total(sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries))
            check_names_differ([entry.orig_filename for entry in entries])
            try:
                _check_overlap(path, entries)
            except struct.error:
                unsafe("an entry whose header is missing")
            yield ZipMembers(archive, entries)


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    if entry.flag_bits & 0x1:
        refuse("encrypted_archive", "an encrypted zip", "a zip without a password", "Make the zip without a password.")
    check_name(name)
    if stat.S_ISLNK(entry.external_attr >> 16):
        unsafe(f"a symbolic link, {shown(name)}")
    if entry.compress_type not in _COMPRESSIONS:
        unsafe(f"an entry compressed by an unusual method, {shown(name)}")
    if entry.file_size > RATIO_FLOOR_BYTES and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        bomb(
            f"{shown(name)}, {entry.compress_size} bytes that unpack to {entry.file_size}",
            f"files that unpack to at most {MAX_RATIO} times their size",
        )


def _check_overlap(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Entries that share bytes are how a small zip claims to hold a large one (CVE-2024-0450)."""
    position = 0
    with path.open("rb") as file:
        for entry in sorted(entries, key=lambda e: e.header_offset):
            if entry.header_offset < position:
                bomb("entries that share the same bytes", "entries one after the other")
            file.seek(entry.header_offset + 26)
            name_length, extra_length = struct.unpack("<HH", file.read(4))
            position = entry.header_offset + 30 + name_length + extra_length + entry.compress_size
