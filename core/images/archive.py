"""Reading the members of a zip from anybody: checked first, read one by one, never extracted to disk."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NoReturn

from core.errors import UnsupportedInput

MAX_MEMBERS = 500_000
MAX_MEMBER_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 32 * 2**30
_MAX_RATIO = 100  # images hardly compress; a plain bitmap of one colour may, hence the floor below
_RATIO_FLOOR_BYTES = 2**20
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, struct.error, EOFError, NotImplementedError, UnicodeError)


class UnreadableMember(Exception):
    """One file that cannot be read; the message is the reason in a few words."""


class ZipMembers:
    """The files of an opened, checked zip."""

    def __init__(self, archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo]) -> None:
        self._archive = archive
        self._entries = {entry.filename: entry for entry in entries}

    def names(self) -> list[str]:
        """Paths inside the archive, sorted."""
        return sorted(self._entries)

    def read(self, name: str) -> bytes:
        """The bytes of one member.

        Raises:
            UnreadableMember: it is damaged or too large.
        """
        entry = self._entries[name]
        if entry.file_size > MAX_MEMBER_BYTES:
            raise UnreadableMember(f"larger than {MAX_MEMBER_BYTES // 2**20} MiB")
        try:
            with self._archive.open(entry) as member:
                # One byte more than declared shows a lie; the library stops at the declared size and checks the CRC.
                return member.read(entry.file_size + 1)
        except (*_BROKEN, OSError, ValueError) as failure:
            raise UnreadableMember("damaged in the archive") from failure
        except Exception as failure:
            if type(failure).__module__ == "zlib":
                raise UnreadableMember("damaged in the archive") from failure
            raise


@contextmanager
def open_zip(path: Path) -> Iterator[ZipMembers]:
    """The zip at ``path``, after all its headers have been checked.

    Raises:
        UnsupportedInput: ``not_an_archive``, ``truncated_archive``, ``zip_bomb`` or ``unsafe_archive``.
    """
    with path.open("rb") as file:
        head = file.read(4)
        if head[:2] != b"PK":
            _refuse(
                "not_an_archive",
                "an empty file" if not head else "a file that is not a zip",
                "a folder or a zip of images",
                "Put the images into a zip.",
            )
        file.seek(0)
        try:
            archive = zipfile.ZipFile(file)
        except _BROKEN as failure:
            raise UnsupportedInput(
                "truncated_archive",
                field="images",
                found=f"a damaged or cut-off zip ({failure})",
                expected="a complete zip of images",
                action="Copy or make the zip again.",
            ) from failure
        with archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MAX_MEMBERS:
                _bomb(f"{len(entries)} files", f"at most {MAX_MEMBERS}")
            for entry in entries:
                _check_entry(entry)
            _check_sizes(entries)
            try:
                _check_overlap(path, entries)
            except struct.error:
                _unsafe("an entry whose header is missing")
            yield ZipMembers(archive, entries)


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.orig_filename
    if entry.flag_bits & 0x1:
        _refuse("encrypted_archive", "an encrypted zip", "a zip without a password", "Make the zip without a password.")
    if not name.isprintable() or "\\" in name or PurePosixPath(name).is_absolute() or ".." in name.split("/"):
        _unsafe(f"an entry named {ascii(name)[:100]}")
    if stat.S_ISLNK(entry.external_attr >> 16):
        _unsafe(f"a symbolic link, {ascii(name)[:100]}")
    if entry.compress_type not in _COMPRESSIONS:
        _unsafe(f"an entry compressed by an unusual method, {ascii(name)[:100]}")
    if entry.file_size > _RATIO_FLOOR_BYTES and entry.file_size > _MAX_RATIO * max(entry.compress_size, 1):
        _bomb(
            f"{ascii(name)[:100]}, {entry.compress_size} bytes that unpack to {entry.file_size}",
            f"files that unpack to at most {_MAX_RATIO} times their size",
        )


def _check_sizes(entries: list[zipfile.ZipInfo]) -> None:
    total = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if total > MAX_TOTAL_BYTES:
        _bomb(f"files that unpack to {total} bytes", f"at most {MAX_TOTAL_BYTES}")
    if total > 64 * _RATIO_FLOOR_BYTES and total > _MAX_RATIO * max(packed, 1):
        _bomb(f"{packed} bytes that unpack to {total}", f"files that unpack to at most {_MAX_RATIO} times their size")
    if len({entry.filename for entry in entries}) != len(entries):
        _unsafe("two entries of the same name")


def _check_overlap(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Entries that share bytes are how a small zip claims to hold a large one (CVE-2024-0450)."""
    position = 0
    with path.open("rb") as file:
        for entry in sorted(entries, key=lambda e: e.header_offset):
            if entry.header_offset < position:
                _bomb("entries that share the same bytes", "entries one after the other")
            file.seek(entry.header_offset + 26)
            name_length, extra_length = struct.unpack("<HH", file.read(4))
            position = entry.header_offset + 30 + name_length + extra_length + entry.compress_size


def _bomb(found: str, expected: str) -> NoReturn:
    _refuse("zip_bomb", found, expected, "Make the zip from the image files themselves.")


def _unsafe(found: str) -> NoReturn:
    _refuse("unsafe_archive", found, "plain files under plain names", "Make the zip again from a folder of images.")


def _refuse(code: str, found: str, expected: str, action: str) -> NoReturn:
    raise UnsupportedInput(code, field="images", found=found, expected=expected, action=action)
