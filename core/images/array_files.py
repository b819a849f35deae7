"""Files of one array of images: NumPy's .npy, and idx, the form of MNIST."""

from __future__ import annotations

import os
from typing import BinaryIO

from core.images.archive import broken, refuse
from core.images.stored_array import LONGEST_HEADER, ArrayMembers, StoredArray, choose_array, read_npy_header

_IDX_TYPES = {0x08: "|u1", 0x09: "|i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES = 8


def open_npy(file: BinaryIO) -> ArrayMembers:
    """The images of an .npy file.

    Raises:
        UnsupportedInput: ``no_image_data``, ``truncated_archive`` or ``zip_bomb``.
    """
    array = read_npy_header(_start(file, LONGEST_HEADER), "array")
    if array is None:
        broken("an npy file whose header cannot be read", "npy file")
    return _members(file, array, "an npy file")


def is_idx(start: bytes) -> bool:
    """Whether a file begins as one of idx does: two zeros, a type, and how many axes there are."""
    return start[:2] == b"\0\0" and len(start) >= 8 and start[2] in _IDX_TYPES and 1 <= start[3] <= _MOST_AXES


def open_idx(file: BinaryIO) -> ArrayMembers:
    """The images of an idx file (``train-images-idx3-ubyte``).

    Raises:
        UnsupportedInput: ``no_image_data`` (labels have one axis), ``truncated_archive`` or ``zip_bomb``.
    """
    start = _start(file, 4 + 4 * _MOST_AXES)
    offset = 4 + 4 * start[3]
    if len(start) < offset:
        broken("an idx file without its header", "idx file")
    shape = tuple(int.from_bytes(start[at : at + 4], "big") for at in range(4, offset, 4))
    if len(shape) == 1:
        refuse(
            "no_image_data",
            f"an idx file of {shape[0]} labels",
            "the idx file of the images",
            "Give the other file of the pair, train-images-idx3-ubyte for train-labels-idx1-ubyte.",
        )
    return _members(file, StoredArray("idx", shape, _IDX_TYPES[start[2]], True, offset), "an idx file")


def _members(file: BinaryIO, array: StoredArray, form: str) -> ArrayMembers:
    choose_array([array], form)
    if file.seek(0, os.SEEK_END) != array.offset + array.nbytes:
        broken(f"{form}, {array}, which is of another size", form.split()[-2] + " file")
    return ArrayMembers(array, file)


def _start(file: BinaryIO, length: int) -> bytes:
    file.seek(0)
    return file.read(length)
