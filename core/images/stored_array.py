"""Arrays of images as NumPy and others store them, read image by image: nothing is unpickled, no array is ever whole.

Shapes: ``[N, H, W, 3]``, ``[N, 3, H, W]``, the same with one channel, or ``[N, H, W]``; bytes, other integers from 0
up, or floats in [0, 1] or [0, 255]. Image 7 has the name ``image-00000007``.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, NoReturn

import numpy as np
from numpy.typing import NDArray

from core.images.archive import MAX_MEMBER_BYTES, TOO_LARGE, UnreadableMember, check_count, refuse, shown
from core.images.decode import MIN_SIDE
from core.images.depth import Depth, to_bytes
from core.images.zip_archive import damage_named
from core.types import RejectedImage

NPY_MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 10_000
"""Bytes; that of an array is some 100."""
BYTES = "|u1"
_VERSIONS = {NPY_MAGIC + b"\x01\x00": 2, NPY_MAGIC + b"\x02\x00": 4}  # bytes of the header's length
_DTYPES = re.compile(r"[<>|=][iu][1248]|[<>=]f[248]|\|b1")
_COLOURS = (1, 3)
_CHUNK_VALUES = 2**20
EXPECTED = (
    "one array of images: [N, H, W, 3], [N, 3, H, W] or [N, H, W]; bytes, integers from 0 up, or floats in [0, 1] or "
    "[0, 255]"
)


@dataclass(frozen=True)
class StoredArray:
    """What a header says; the values begin at ``offset``. ``dtype`` is in NumPy's short form, ``|u1``; ``in_rows``: one
    image after the other."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    in_rows: bool
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize if self.is_numeric() else 0

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(height, width, channels) of every image; None where these are no images."""
        if len(self.shape) == 3:
            # [H, W, 3] is one image, and none is as narrow as that.
            return (self.shape[1], self.shape[2], 1) if min(self.shape[1:]) >= MIN_SIDE else None
        if len(self.shape) != 4:
            return None
        if self.shape[3] in _COLOURS:
            return self.shape[1], self.shape[2], self.shape[3]
        return (self.shape[2], self.shape[3], self.shape[1]) if self.shape[1] in _COLOURS else None

    @property
    def channels_first(self) -> bool:
        return len(self.shape) == 4 and self.shape[3] not in _COLOURS

    @property
    def rank(self) -> int:
        """How likely these are the images among several arrays: 0, colours in bytes; 1; 2, they cannot be."""
        shape = self.image_shape
        if shape is None or not self.is_numeric():
            return 2
        return 0 if self.dtype == BYTES and shape[2] == 3 else 1

    def is_numeric(self) -> bool:
        return _DTYPES.fullmatch(self.dtype) is not None

    def __str__(self) -> str:
        return f"{shown(self.key)} {shown(self.dtype)[1:-1]} {list(self.shape)[:8]}"


class ArrayMembers:
    """The images of one array, each as a PPM or PGM file: a header before its pixels."""

    rejected: tuple[RejectedImage, ...] = ()

    def __init__(self, array: StoredArray, stream: IO[bytes]) -> None:
        shape = array.image_shape
        assert shape is not None
        self._array, self._stream, self._shape = array, stream, shape
        self._whites, self.notes = (255.0, 1.0), tuple[str, ...]()
        if array.dtype != BYTES:
            self._whites, self.notes = self._look_at_values()
        self._indices = {f"image-{index:08d}": index for index in range(array.shape[0])}

    @property
    def key(self) -> str:
        """The array's name in the file."""
        return self._array.key

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self._shape[:2]

    def names(self) -> list[str]:
        """``image-00000000`` and so on, in the order of the array."""
        return list(self._indices)

    def read(self, name: str) -> bytes:
        """One image as a PPM file, a PGM where it is grey.

        Raises:
            UnreadableMember: it is damaged or too large.
        """
        pixels = self.pixels(name)
        grey = pixels.ndim == 2
        return b"%s %d %d 255\n" % (b"P5" if grey else b"P6", pixels.shape[1], pixels.shape[0]) + pixels.tobytes()

    def pixels(self, name: str) -> NDArray[np.uint8]:
        """One image as bytes, ``[H, W]`` or ``[H, W, 3]``.

        Raises:
            UnreadableMember: it is damaged or too large.
        """
        dtype, count = np.dtype(self._array.dtype), math.prod(self._shape)
        if count * dtype.itemsize > MAX_MEMBER_BYTES:
            raise UnreadableMember(TOO_LARGE)
        with damage_named():
            self._stream.seek(self._array.offset + self._indices[name] * count * dtype.itemsize)
            values = np.frombuffer(self._stream.read(count * dtype.itemsize), dtype=dtype)
            height, width, channels = self._shape
            if self._array.channels_first:
                values = values.reshape(channels, height, width).transpose(1, 2, 0)
            values = values.reshape(height, width, channels)
        levels = values[..., 0] if channels == 1 else values
        if self._array.dtype == BYTES:
            return levels
        return np.asarray(to_bytes(_levels(levels), self._whites))

    def _look_at_values(self) -> tuple[tuple[float, float], tuple[str, ...]]:
        """Which value is white, as ``core.images.depth`` decides it for a set, and what is to be said of it."""
        depth, dtype, left = Depth(), np.dtype(self._array.dtype), self._array.nbytes
        self._stream.seek(self._array.offset)
        while left > 0:
            data = self._stream.read(min(left, _CHUNK_VALUES * dtype.itemsize))
            values = _levels(np.frombuffer(data[: len(data) - len(data) % dtype.itemsize], dtype=dtype))
            if not len(values):
                break
            if not np.isfinite(values).all():
                _refuse_values(self._array, "values that are NaN or infinite", "Leave those images out.")
            if values.min() < 0:
                remedy = "Undo the normalisation, x * std + mean, and save that."
                _refuse_values(self._array, f"values below zero ({values.min():g}), which no pixel has", remedy)
            if float(values.max()) > 65535:
                _refuse_values(self._array, f"values up to {values.max():g}", "Save x / x.max().")
            depth.see(values)
            left -= len(data)
        said = depth.white("u") != 255 or dtype.kind in "fb"
        return depth.whites(), depth.notes() if said else ()


def read_npy_header(start: bytes, key: str) -> StoredArray | None:
    """The array whose file begins with ``start``. None: a header that is not NumPy's, or the newest form of it, which
    only named fields need.

    Read here and not by NumPy, whose own reader makes a type of whatever the header says.
    """
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
    return StoredArray(key, shape, str(said.get("descr")), in_columns is False, end)


def choose_array(arrays: Sequence[StoredArray], form: str) -> StoredArray:
    """The one of ``arrays`` that holds images.

    Raises:
        UnsupportedInput: ``no_image_data`` or ``ambiguous_image_data`` where not exactly one can be, or it cannot be
            read image by image; ``zip_bomb`` where it has too many.
    """
    best = min(array.rank for array in arrays)
    images = [array for array in arrays if array.rank == best]
    if best == 2:
        _refuse("no_image_data", form, arrays, _remedy(arrays))
    if len(images) > 1:
        _refuse("ambiguous_image_data", form, images, f"Save only one of them: {_line('x[KEY]')}")
    array = images[0]
    if not array.in_rows:
        refuse(
            "no_image_data",
            f"the array {array} in Fortran order",
            "one image after the other",
            f"Save it row by row: {_line('numpy.ascontiguousarray(x)')}",
        )
    check_count(array.shape[0])
    return array


def _levels(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return values.astype(np.float32) if values.dtype.kind == "b" else values


def _remedy(arrays: Sequence[StoredArray]) -> str:
    if len(arrays) == 1:
        shape = arrays[0].shape
        if arrays[0].dtype == "|O":
            return f"Save numbers, not objects: {_line('numpy.stack(list(x))')}"
        if len(shape) == 3 and shape[2] == 3:
            return f"One image is no set; save several as one array: {_line('numpy.stack([x, ...])')}"
        if len(shape) == 4 and 4 in (shape[1], shape[3]):
            channels = "x[..., :3]" if shape[3] == 4 else "x[:, :3]"
            return f"Leave out the fourth channel: {_line(channels)}"
        if len(shape) == 2:
            return f"Give the images their shape: {_line('x.reshape(-1, 3, 32, 32)')}, with their own sides."
    return f"Save the images as one array: {_line('x')}, where x is [N, H, W, 3] of numpy.uint8."


def _line(expression: str) -> str:
    return f"numpy.save('images.npy', {expression})"


def _refuse_values(array: StoredArray, found: str, action: str) -> NoReturn:
    refuse("no_image_data", f"the array {array} with {found}", EXPECTED, action)


def _refuse(code: str, form: str, arrays: Sequence[StoredArray], action: str) -> NoReturn:
    more = f" and {len(arrays) - 10} more" if len(arrays) > 10 else ""
    refuse(code, f"{form} with {', '.join(map(str, arrays[:10]))}{more}", EXPECTED, action)
