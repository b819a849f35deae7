"""Unpacking a compressed file into one without a name, so that it can be read in any order.

The file is gone with its handle, however the process ends. It lies beside the archive, or, where that folder cannot be
written, where temporary files go (``TMPDIR``).
"""

from __future__ import annotations

import bz2
import errno
import gzip
import importlib
import lzma
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Protocol

from core.errors import AuditFailed
from core.images.archive import broken, check_total, refuse

_CHUNK = 2**20
_XZ_MEMORY = 256 * 2**20  # xz -9 needs 65 MiB; a hostile header asks for 4 GiB


class Compression(Enum):
    """How a tar is compressed; the value is what such a file begins with."""

    GZIP = b"\x1f\x8b\x08"
    BZIP2 = b"BZh"
    XZ = b"\xfd7zXZ\0"
    ZSTANDARD = b"\x28\xb5\x2f\xfd"


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def compression_of(head: bytes) -> Compression | None:
    """How a file that begins with ``head`` is compressed, if it is."""
    return next((each for each in Compression if head.startswith(each.value)), None)


@contextmanager
def unpacked(file: BinaryIO, compression: Compression, *, beside: Path) -> Iterator[BinaryIO]:
    """The content of ``file`` as a seekable file, at its beginning; in the folder ``beside``, or with temporary files.

    Raises:
        UnsupportedInput: ``truncated_archive`` or ``zip_bomb``; ``unsupported_compression`` for zstandard where this
            Python (before 3.14) has none.
        AuditFailed: ``disk_full``.
    """
    packed = file.seek(0, os.SEEK_END)
    file.seek(0)
    with _file_without_name(beside) as output:
        total = 0
        for chunk in _damage_told(_chunks(file, compression)):
            total += len(chunk)
            check_total(total, packed)
            _write(output, chunk)
        output.flush()
        output.seek(0)
        yield output


@contextmanager
def spooled(pieces: Iterator[bytes], *, beside: Path) -> Iterator[BinaryIO]:
    """``pieces`` as a seekable file, at its beginning, in the same place as :func:`unpacked` has its own.

    Raises:
        AuditFailed: ``disk_full``.
    """
    with _file_without_name(beside) as output:
        for piece in pieces:
            _write(output, piece)
        output.flush()
        output.seek(0)
        yield output


def _chunks(file: BinaryIO, compression: Compression) -> Iterator[bytes]:
    """The unpacked content in pieces of bounded size, whatever the file claims."""
    if compression is Compression.GZIP:
        with gzip.GzipFile(fileobj=file) as unpacking:
            while chunk := unpacking.read(_CHUNK):
                yield chunk
    else:
        yield from _streams(file, _decompressors(compression))


def _decompressors(compression: Compression) -> Callable[[], _Decompressor]:
    if compression is Compression.BZIP2:
        return bz2.BZ2Decompressor
    if compression is Compression.XZ:
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    try:
        found: Callable[[], _Decompressor] = importlib.import_module("compression.zstd").ZstdDecompressor
    except ModuleNotFoundError:
        refuse(
            "unsupported_compression",
            "a file compressed with zstandard",
            "a compression that this Python can read; zstandard needs 3.14",
            "Compress it with gzip or xz, or unpack it.",
        )
    return found


def _streams(file: BinaryIO, new: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """One compressed stream after another, as ``cat a.xz b.xz`` makes them, with zeros between them and at the end."""
    decompressor, data = new(), file.read(_CHUNK)
    while data or not decompressor.needs_input:
        yield decompressor.decompress(data, _CHUNK)
        data = b""
        if decompressor.eof:
            data = decompressor.unused_data.lstrip(b"\0")
            while not data:
                more = file.read(_CHUNK)
                if not more:
                    return
                data = more.lstrip(b"\0")
            decompressor = new()
        elif decompressor.needs_input:
            data = file.read(_CHUNK)
    raise EOFError("the file ends too early")


def _damage_told(chunks: Iterator[bytes]) -> Iterator[bytes]:
    while True:
        try:
            chunk = next(chunks, None)
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as failure:
            broken(f"a damaged or cut-off compressed file ({failure})", "file")
        except Exception as failure:
            if type(failure).__name__ != "ZstdError":  # a class that this Python may not have
                raise
            broken(f"a damaged or cut-off compressed file ({failure})", "file")
        if chunk is None:
            return
        yield chunk


@contextmanager
def _file_without_name(beside: Path) -> Iterator[BinaryIO]:
    try:
        file = tempfile.TemporaryFile(dir=beside)  # noqa: SIM115  # closed below, wherever it could be made
    except OSError:
        file = tempfile.TemporaryFile()  # noqa: SIM115
    with file:
        yield file


def _write(output: BinaryIO, chunk: bytes) -> None:
    try:
        output.write(chunk)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise AuditFailed(
            "disk_full",
            field="images",
            found="no space left while unpacking the images",
            expected="room for the unpacked tar, beside it or in TMPDIR",
            action="Free some space, or give the tar without compression.",
        ) from error
