"""The headers of a tar from anybody: where each file lies, without reading one of them.

Python's own tarfile is made for archives that one trusts: in many of its versions a hostile header makes it loop for
ever (CVE-2025-8194) or for hours (CVE-2024-6232), or reads gigabytes into memory as a file's name. What images need of
the format is little: regular files, directories, and the three ways to write a long name (ustar, GNU, pax).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from core.images.archive import MAX_MEMBERS, bomb, broken, check_count, check_name, check_names_differ, shown, unsafe

BLOCK = 512
_MAX_HEADERS = 4 * MAX_MEMBERS  # folders and long names have headers of their own
_MAX_EXTENSION_BYTES = 2**20
_REGULAR = (b"0", b"\0", b"7")
_FOLDER, _LABEL = b"5", b"V"
_PAX, _PAX_FOR_ALL, _GNU_NAME, _GNU_LINK = b"x", b"g", b"L", b"K"
_REFUSED = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
}


@dataclass(frozen=True)
class TarEntry:
    """One regular file: ``size`` bytes from ``offset`` on."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class _Header:
    kind: bytes
    name: bytes
    size: int


def is_header(block: bytes) -> bool:
    """Whether these 512 bytes are the header of a tar's entry: their checksum is right."""
    if len(block) < BLOCK or not any(block):
        return False
    without = block[:148] + b" " * 8 + block[156:BLOCK]
    said = _number(block[148:156])
    # Some old programs took the bytes for signed ones.
    return said == sum(without) or said == sum(byte - 256 if byte > 127 else byte for byte in without)


def read_entries(file: BinaryIO, length: int) -> list[TarEntry]:
    """The regular files of the tar in ``file``, which has ``length`` bytes, in their order.

    A name is normalised as a file system would: ``./a//b`` is ``a/b``.

    Raises:
        UnsupportedInput: ``truncated_archive``, ``zip_bomb`` or ``unsafe_archive``.
    """
    entries: list[TarEntry] = []
    position, said = 0, dict[bytes, bytes]()
    for _ in range(_MAX_HEADERS):
        file.seek(position)
        block = file.read(BLOCK)
        if len(block) == BLOCK and not any(block):
            _check_end(file)
            check_names_differ([entry.name for entry in entries])
            return entries
        header = _read_header(block)
        start = position + BLOCK
        # A pax header gives sizes that do not fit into the eight gigabytes of the classic field.
        size = _decimal(said[b"size"]) if b"size" in said and header.kind in _REGULAR else header.size
        # By the format a folder has no data, whatever its size says.
        position = start if header.kind == _FOLDER else start + -(-size // BLOCK) * BLOCK
        if position > length:
            broken("a tar that is cut off", "tar")
        if header.kind in (_PAX, _PAX_FOR_ALL, _GNU_NAME, _GNU_LINK):
            said |= _extension(header.kind, file, size)
            continue
        name = _name(said.get(b"path", header.name))
        if header.kind in _REGULAR and not said.get(b"path", header.name).endswith(b"/"):
            if not name:
                unsafe("an entry without a name")
            entries.append(TarEntry(name, start, size))
            check_count(len(entries))
        elif header.kind not in (*_REGULAR, _FOLDER, _LABEL):
            unsafe(f"{_REFUSED.get(header.kind, 'an entry of an unusual kind')}, {shown(name)}")
        said = {}
    bomb(f"more than {_MAX_HEADERS} headers", f"at most {MAX_MEMBERS} files")


def _read_header(block: bytes) -> _Header:
    if len(block) < BLOCK:
        broken("a tar without its end", "tar")
    if not is_header(block):
        broken("a tar with a damaged header", "tar")
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0]
    # GNU's variant, whose magic ends in a space, keeps other things in the field of the prefix.
    if prefix and block[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    size = _number(block[124:136])
    if size is None:
        broken("a tar with an entry without a size", "tar")
    return _Header(block[156:157], name, size)


def _number(field: bytes) -> int | None:
    """Octal digits; or, after a first byte of 0x80, a binary number. None: neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if digits.strip(b"01234567"):
        return None
    return int(digits or b"0", 8)


def _extension(kind: bytes, file: BinaryIO, size: int) -> dict[bytes, bytes]:
    """What a header says about the next one: its ``path`` and ``size``, if anything of use."""
    if size > _MAX_EXTENSION_BYTES:
        bomb(f"{size} bytes about one file", f"at most {_MAX_EXTENSION_BYTES}")
    body = file.read(size)
    if kind == _GNU_NAME:
        return {b"path": body.split(b"\0", 1)[0]}
    if kind == _GNU_LINK:
        return {}
    records = _pax_records(body)
    if any(key.startswith(b"GNU.sparse") for key in records):
        unsafe("a sparse file")
    if kind == _PAX_FOR_ALL:
        if records.keys() & {b"path", b"size"}:
            unsafe("one name or size for all files")
        return {}
    return {key: records[key] for key in (b"path", b"size") if key in records}


def _pax_records(body: bytes) -> dict[bytes, bytes]:
    """Records of the form ``LENGTH KEY=VALUE`` and a line feed, the length being that of the whole record."""
    records, at = dict[bytes, bytes](), 0
    while at < len(body):
        space = body.find(b" ", at, at + 20)
        end = at + _decimal(body[at : max(space, at)])
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if end > len(body) or not equals or body[end - 1 : end] != b"\n":
            broken("a tar with a damaged header", "tar")
        records[key], at = value, end
    return records


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 19:
        broken("a tar with a damaged header", "tar")
    return int(digits)


def _name(raw: bytes) -> str:
    """The name, checked; older programs wrote other things than UTF-8, and Latin-1 reads them all."""
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        name = raw.decode("latin-1")
    check_name(name)
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def _check_end(file: BinaryIO) -> None:
    """After the end mark there are zeros only: what follows it, another archive say, some readers see and some not."""
    while rest := file.read(2**20):
        if any(rest):
            unsafe("bytes after the end of the tar")
