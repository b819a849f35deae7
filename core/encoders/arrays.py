"""Named NumPy arrays (``numpy.savez``) as tensors: only in the confined child process."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, BinaryIO

from core.encoders.inert import Refused

if TYPE_CHECKING:
    from torch import Tensor

_KINDS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")


def read_arrays(file: BinaryIO, file_size: int) -> tuple[dict[str, Tensor], list[str]]:
    """The arrays of an archive by name, and the names of those that hold no numbers. Nothing is unpickled.

    Raises:
        Refused: more numbers than an honest archive of this size holds.
    """
    import numpy as np
    import torch

    tensors: dict[str, Tensor] = {}
    left_out: list[str] = []
    with zipfile.ZipFile(file) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > 4 * file_size + 2**20:
            raise Refused("unsafe_checkpoint", "arrays that unpack to more than four times the file")
    with np.load(file, allow_pickle=False) as arrays:
        for name in arrays.files:
            try:
                array = arrays[name]
            except ValueError:  # an array of objects, which only a pickle could give back
                left_out.append(name)
                continue
            if array.dtype.name in _KINDS:
                native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
                tensors[name] = torch.from_numpy(native.reshape(array.shape))
            else:
                left_out.append(name)
    return tensors, left_out
