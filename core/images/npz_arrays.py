"""Images in an array of a NumPy file (.npz), read one by one; nothing is unpickled and the array is never whole.

The array is uint8, ``[N, H, W, 3]`` or ``[N, 3, H, W]``. Image 7 has the name ``image-00000007``.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, NoReturn

import numpy as np

from core.images.archive import (
    MAX_MEMBER_BYTES,
    TOO_LARGE,
    UnreadableMember,
    broken,
    check_count,
    refuse,
    shown,
)
from core.images.zip_archive import ZipMembers, damage_named
from core.types import RejectedImage

_SUFFIX = ".npy"
_VERSIONS = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}  # bytes of the header's length
_LONGEST_HEADER = 10_000  # bytes; that of an array is some 100
_UINT8 = "|u1"
_CHUNK = 2**22
_EXPECTED = "one array of uint8 (|u1), [N, H, W, 3] or [N, 3, H, W]"


@dataclass(frozen=True)
class _Array:
    """What the header of a member says; the values begin at ``offset``."""

    key: str
    shape: tuple[int, ...]
    dtype: str  # in NumPy's short form, "|u1"
    in_rows: bool  # C order: one image after the other
    offset: int

    @property
    def channels_last(self) -> bool:
        return self.shape[-1] == 3

    def holds_images(self) -> bool:
        return self.dtype == _UINT8 and len(self.shape) == 4 and 3 in (self.shape[1], self.shape[3])

    def __str__(self) -> str:
        return f"{shown(self.key)} {shown(self.dtype)[1:-1]} {list(self.shape)[:8]}"


class NpzMembers:
    """The images of one array, each as a PPM file: a header before its pixels."""

    rejected: tuple[RejectedImage, ...] = ()

    def __init__(self, array: _Array, stream: IO[bytes]) -> None:
        self._array = array
        self._stream = stream
        count, *self._shape = array.shape
        self._indices = {f"image-{index:08d}": index for index in range(count)}

    @property
    def key(self) -> str:
        """The array's name in the file."""
        return self._array.key

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of every image."""
        return (self._shape[0], self._shape[1]) if self._array.channels_last else (self._shape[1], self._shape[2])

    def names(self) -> list[str]:
        """``image-00000000`` and so on, in the order of the array."""
        return list(self._indices)

    def read(self, name: str) -> bytes:
        """One image as a PPM file.

        Raises:
            UnreadableMember: it is damaged or too large.
        """
        size = self._shape[0] * self._shape[1] * self._shape[2]
        if size > MAX_MEMBER_BYTES:
            raise UnreadableMember(TOO_LARGE)
        with damage_named():
            self._stream.seek(self._array.offset + self._indices[name] * size)
            pixels = np.frombuffer(self._stream.read(size), dtype=np.uint8).reshape(self._shape)
        if not self._array.channels_last:
            pixels = pixels.transpose(1, 2, 0)
        return b"P6 %d %d 255\n" % (pixels.shape[1], pixels.shape[0]) + pixels.tobytes()


def is_npz(archive: ZipMembers) -> bool:
    """Whether a zip holds arrays and nothing else."""
    names = archive.names()
    return bool(names) and all(name.endswith(_SUFFIX) for name in names)


@contextmanager
def open_npz(archive: ZipMembers) -> Iterator[NpzMembers]:
    """The images in ``archive``, a zip that :func:`is_npz`.

    Raises:
        UnsupportedInput: ``no_image_data`` or ``ambiguous_image_data`` where not exactly one array can be images,
            ``truncated_archive`` where that one is damaged, ``zip_bomb`` where it has too many images.
    """
    arrays = [_read_header(archive, name) for name in archive.names()]
    array = _choose([array for array in arrays if array is not None], len(arrays))
    if not array.in_rows:
        refuse(
            "no_image_data",
            f"the array {array} in Fortran order",
            "one image after the other",
            "Save numpy.ascontiguousarray of it.",
        )
    check_count(array.shape[0])
    member = array.key + _SUFFIX
    if archive.size(member) != array.offset + math.prod(array.shape):
        broken(f"the array {array}, which is of another size", "npz")
    _check_whole(archive, member)
    with archive.open(member) as stream:
        yield NpzMembers(array, stream)


def _read_header(archive: ZipMembers, name: str) -> _Array | None:
    """None: a header that is not NumPy's, or the newest form of it, which only named fields need.

    Read here and not by NumPy, whose own reader makes a type of whatever the header says.
    """
    try:
        with damage_named(), archive.open(name) as stream:
            start = stream.read(_LONGEST_HEADER)
    except UnreadableMember:
        broken(f"an npz whose array {shown(name)} is damaged", "npz")
    if start[:8] not in _VERSIONS:
        return None
    begin = 8 + _VERSIONS[start[:8]]
    end = begin + int.from_bytes(start[8:begin], "little")
    try:
        said = ast.literal_eval(start[begin:end].decode("latin-1").strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    if end > len(start) or not isinstance(said, dict):
        return None
    shape, in_columns = said.get("shape"), said.get("fortran_order")
    if not isinstance(shape, tuple) or any(type(side) is not int or side < 0 for side in shape):
        return None
    return _Array(name.removesuffix(_SUFFIX), shape, str(said.get("descr")), in_columns is False, end)


def _choose(arrays: list[_Array], members: int) -> _Array:
    images = [array for array in arrays if array.holds_images()]
    if len(images) == 1:
        return images[0]
    if images:
        _refuse("ambiguous_image_data", images, "Save only one of them.")
    if not arrays:
        broken(f"an npz whose {members} array(s) cannot be read", "npz")
    _refuse("no_image_data", arrays, "Convert the images to bytes, 0 to 255.")


def _refuse(code: str, arrays: list[_Array], action: str) -> NoReturn:
    more = f" and {len(arrays) - 10} more" if len(arrays) > 10 else ""
    refuse(code, f"an npz with {', '.join(map(str, arrays[:10]))}{more}", _EXPECTED, action)


def _check_whole(archive: ZipMembers, member: str) -> None:
    """Read all of it once: one checksum stands for all images, and its fault would else be seen at the last one."""
    try:
        with damage_named(), archive.open(member) as stream:
            while stream.read(_CHUNK):
                pass
    except UnreadableMember:
        broken("an npz whose images are damaged", "npz")
