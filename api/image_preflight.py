"""What can be said about uploaded images without decoding one: the form by the content, and whether the file is whole.

The forms are those that ``core.images.forms`` opens; an npz, and a zip of sets, is a zip as far as one sees here.
"""

from __future__ import annotations

import bz2
import importlib
import lzma
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, Protocol

from api.errors import input_problem
from api.quarantine import ArrivedFile

EXPECTED_IMAGES = (
    "a complete zip or tar (plain, gzip, bzip2 or xz) of images, a Parquet or Arrow file, or an array of images (npz, "
    "npy, idx, CIFAR's pickle)"
)
_AGAIN = "Upload the file again; the copy you have may be incomplete."
_BLOCK = 512
_LONGEST_START = 2**20  # a block of bzip2 holds up to 900 kB and is unpacked as a whole
_XZ_MEMORY = 256 * 2**20
_EMPTY_ZIP = b"PK\x05\x06"
_IDX_TYPES = (0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E)
_PARQUET, _ENCRYPTED_PARQUET = b"PAR1", b"PARE"


class ImageForm(Enum):
    """How images can be sent in one file; the value is the media type."""

    ZIP = "application/zip"
    TAR = "application/x-tar"
    GZIP = "application/gzip"
    BZIP2 = "application/x-bzip2"
    XZ = "application/x-xz"
    ZSTANDARD = "application/zstd"
    PARQUET = "application/vnd.apache.parquet"
    ARROW = "application/vnd.apache.arrow.stream"
    ARRAY = "application/x-npy"
    IDX = "application/x-idx"
    PICKLE = "application/x-pickle"


_BEGINNINGS: Mapping[bytes, ImageForm] = MappingProxyType(
    {
        b"PK\x03\x04": ImageForm.ZIP,
        _EMPTY_ZIP: ImageForm.ZIP,
        b"\x1f\x8b\x08": ImageForm.GZIP,
        b"BZh": ImageForm.BZIP2,
        b"\xfd7zXZ\0": ImageForm.XZ,
        b"\x28\xb5\x2f\xfd": ImageForm.ZSTANDARD,
        _PARQUET: ImageForm.PARQUET,
        _ENCRYPTED_PARQUET: ImageForm.PARQUET,
        b"ARROW1\0\0": ImageForm.ARROW,
        b"\xff\xff\xff\xff": ImageForm.ARROW,
        b"\x93NUMPY": ImageForm.ARRAY,
        **{bytes((0, 0, kind, axes)): ImageForm.IDX for kind in _IDX_TYPES for axes in range(1, 9)},
        **{bytes((0x80, protocol, first)): ImageForm.PICKLE for protocol in range(2, 6) for first in b"}](c\x95"},
        **dict.fromkeys((b"(dp", b"}q\0", b"}q\1"), ImageForm.PICKLE),
    }
)
_ARRAYS = (ImageForm.ARROW, ImageForm.ARRAY, ImageForm.IDX, ImageForm.PICKLE)
"""Of these no more can be seen than how they begin: the worker, which opens them, says what is wrong."""


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def form_of(path: Path) -> ImageForm | None:
    """The form of the file at ``path``, by how it begins; None: none of ours."""
    return _form_by(_read(path, 0, _BLOCK))


def _form_by(start: bytes) -> ImageForm | None:
    if _begins_tar(start):
        return ImageForm.TAR
    return next((form for beginning, form in _BEGINNINGS.items() if start.startswith(beginning)), None)


def check_images(file: ArrivedFile) -> None:
    """Let ``file`` pass as images.

    Raises:
        RequestProblem: 422, saying what was found and what would be right.
    """
    form = form_of(file.path)
    if form is ImageForm.ZIP:
        _check_zip(file)
    elif form is ImageForm.TAR:
        _check_tar(file)
    elif form is ImageForm.PARQUET:
        _check_parquet(file)
    elif form is None:
        _refuse("not_an_archive", "The file is none of the forms that are read.", "Send the images in one of these.")
    elif form not in _ARRAYS:
        _check_compressed(file, form)


def _check_zip(file: ArrivedFile) -> None:
    if _read(file.path, 0, 4) == _EMPTY_ZIP:
        _refuse("no_images", "The zip archive is empty.", "Put the images into it.")
    if not zipfile.is_zipfile(file.path):
        _refuse("truncated_zip", "The zip archive has no end: it is incomplete.", _AGAIN)


def _check_tar(file: ArrivedFile) -> None:
    _check_not_empty(_read(file.path, 0, _BLOCK))
    end = _read(file.path, max(0, file.size - _BLOCK), _BLOCK)
    if any(end):
        _refuse("truncated_archive", "The tar archive has no end: it is incomplete.", _AGAIN)


def _check_compressed(file: ArrivedFile, form: ImageForm) -> None:
    unpacked = _unpacked_start(_read(file.path, 0, _LONGEST_START), form)
    inner = _form_by(unpacked)
    if inner in _ARRAYS:
        return
    if len(unpacked) < _BLOCK:
        _refuse("truncated_archive", "The compressed file is damaged or incomplete at its beginning.", _AGAIN)
    if inner is not ImageForm.TAR:
        detail = "The compressed file holds neither a tar archive nor an array of images."
        _refuse("not_an_archive", detail, "Put the images into a zip or tar.")
    _check_not_empty(unpacked)


def _check_not_empty(block: bytes) -> None:
    if not any(block):
        _refuse("no_images", "The tar archive is empty.", "Put the images into it.")


def _check_parquet(file: ArrivedFile) -> None:
    if _read(file.path, 0, 4) == _ENCRYPTED_PARQUET:
        _refuse("encrypted_archive", "The Parquet file is encrypted.", "Write it without encryption.")
    end = _read(file.path, max(0, file.size - 8), 8)
    if file.size < 12 or end[4:] != _PARQUET:
        _refuse("truncated_archive", "The Parquet file has no end: it is incomplete.", _AGAIN)
    footer = int.from_bytes(end[:4], "little")
    if footer + 12 > file.size:
        _refuse(
            "truncated_archive", f"The Parquet file announces a footer of {footer} bytes, it holds {file.size}.", _AGAIN
        )


def _unpacked_start(data: bytes, form: ImageForm) -> bytes:
    """The first block of what is compressed in ``data``; shorter where that is damaged."""
    decompressor = _DECOMPRESSORS[form]()
    try:
        return decompressor.decompress(data, _BLOCK)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return b""
    except Exception as failure:
        if type(failure).__name__ != "ZstdError":  # a class that this Python may not have
            raise
        return b""


def _zstandard() -> _Decompressor:
    try:
        found: _Decompressor = importlib.import_module("compression.zstd").ZstdDecompressor()
    except ModuleNotFoundError:
        _refuse(
            "unsupported_compression",
            "The file is compressed with zstandard, which this service cannot read.",
            "Compress the tar with gzip or xz, or send it without compression.",
        )
    return found


_DECOMPRESSORS: Mapping[ImageForm, Callable[[], _Decompressor]] = MappingProxyType(
    {
        ImageForm.GZIP: lambda: zlib.decompressobj(wbits=31),
        ImageForm.BZIP2: bz2.BZ2Decompressor,
        ImageForm.XZ: lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
        ImageForm.ZSTANDARD: _zstandard,
    }
)


def _begins_tar(start: bytes) -> bool:
    """Whether these are the first 512 bytes of a tar: a header with a right checksum, or zeros, the end of it."""
    if len(start) < _BLOCK:
        return False
    if not any(start[:_BLOCK]):
        return True
    digits = start[148:156].split(b"\0", 1)[0].strip(b" ")
    if not digits or digits.strip(b"01234567"):
        return False
    summed = start[:148] + b" " * 8 + start[156:_BLOCK]
    signed = sum(byte - 256 if byte > 127 else byte for byte in summed)  # as some old programs summed
    return int(digits, 8) in (sum(summed), signed)


def _read(path: Path, position: int, length: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(position, os.SEEK_SET)
        return stream.read(length)


def _refuse(code: str, detail: str, action: str) -> NoReturn:
    raise input_problem(code, "/images", detail, expected=EXPECTED_IMAGES, action=action)
