"""Where the numbers of a checkpoint lie, in its two forms: only in the confined child process.

The zip form of ``torch.save`` (and TorchScript's) keeps each storage as an entry ``data/KEY``; the older form keeps
them one after another behind its five pickles, each with its length.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from core.encoders.inert import InertUnpickler, Refused, StorageRecord, TensorRecord
from core.encoders.inspect_zip import extent

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Span:
    """``length`` bytes of the file from ``begin``."""

    begin: int
    length: int


@dataclass(frozen=True)
class Opened:
    """What the pickle says, with every tensor still a record, and where each storage lies; ``skipped`` are the names of
    classes that were not imported."""

    content: Any
    spans: Mapping[str, Span]
    skipped: tuple[str, ...]


def open_zip(file: BinaryIO) -> Opened:
    """The contents of a checkpoint or TorchScript archive in zip form."""
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        if "byteorder" in entries and archive.read(entries["byteorder"]).strip() != b"little":
            raise Refused("unsafe_checkpoint", "numbers written by a big-endian machine")
        unpickler = InertUnpickler(io.BytesIO(archive.read(entries["data.pkl"])))
        content = unpickler.load()
        spans = {}
        for name, entry in entries.items():
            if name.startswith("data/"):
                _, end = extent(file, entry)
                spans[name.removeprefix("data/")] = Span(end - entry.file_size, entry.file_size)
    return Opened(content, spans, tuple(unpickler.skipped))


def open_legacy(file: BinaryIO) -> Opened:
    """The contents of a checkpoint in the older form."""
    for _ in range(2):
        InertUnpickler(file).load()  # the magic number and the protocol's version
    system = InertUnpickler(file).load()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise Refused("unsafe_checkpoint", "numbers written by a big-endian machine")
    unpickler = _SizedUnpickler(file)
    content = unpickler.load()
    keys = InertUnpickler(file).load()
    if not isinstance(keys, list):
        raise Refused("unsafe_checkpoint", "a checkpoint without a list of its storages")
    spans: dict[str, Span] = {}
    for key in map(str, keys):
        header = file.read(8)
        if len(header) < 8 or key not in unpickler.item_sizes:
            raise Refused("unsafe_checkpoint", "a checkpoint whose storages are cut off")
        (size,) = struct.unpack("<q", header)
        spans[key] = Span(file.tell(), size * unpickler.item_sizes[key])
        file.seek(max(0, spans[key].length), io.SEEK_CUR)
    return Opened(content, spans, tuple(unpickler.skipped))


class _SizedUnpickler(InertUnpickler):
    """Notes the bytes of one number of each storage, which the older form does not repeat beside it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.item_sizes: dict[str, int] = {}

    def persistent_load(self, pid: Any) -> Any:
        storage = super().persistent_load(pid)
        if isinstance(storage, StorageRecord):
            self.item_sizes[storage.key] = 1 if storage.dtype is None else _item_size(storage.dtype)
        return storage


class Numbers:
    """Tensors of a checkpoint by their records; a storage that several share is read once."""

    def __init__(self, file: BinaryIO, spans: Mapping[str, Span], file_size: int) -> None:
        self._file, self._spans, self._file_size = file, spans, file_size
        self._read: dict[str, bytearray] = {}

    def tensor(self, record: TensorRecord, name: str) -> Tensor:
        """The tensor that ``record`` describes, sharing its storage's memory; ``name`` is for messages.

        Raises:
            Refused: a type that no encoder needs, or more numbers than the file holds for it.
        """
        import torch

        size = _item_size(record.dtype)
        needed = math.prod(record.shape) * size
        data = self._storage(record.storage.key, name)
        first = record.storage.begin + record.offset
        reach = first + sum((n - 1) * step for n, step in zip(record.shape, record.stride, strict=True))
        if needed > max(len(data), 1) or needed > self._file_size or (needed and (reach + 1) * size > len(data)):
            raise Refused("unsafe_checkpoint", f"{name} claims {needed} bytes, more than the file holds for it")
        dtype = getattr(torch, record.dtype)
        if needed == 0:
            return torch.empty(record.shape, dtype=dtype)
        flat = torch.frombuffer(data, dtype=dtype, count=len(data) // size)
        return flat.as_strided(record.shape, record.stride, first)

    def _storage(self, key: str, name: str) -> bytearray:
        if key not in self._read:
            span = self._spans.get(key)
            if span is None or span.length < 0 or span.begin + span.length > self._file_size:
                raise Refused("unsafe_checkpoint", f"{name} whose numbers are not in the file")
            self._file.seek(span.begin)
            self._read[key] = bytearray(self._file.read(span.length))
        return self._read[key]


_ITEM_SIZES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "float8_e5m2": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}


def _item_size(dtype: str) -> int:
    if dtype not in _ITEM_SIZES:
        raise Refused("unsafe_checkpoint", f"a tensor of type {ascii(dtype)[1:-1][:40]}")
    return _ITEM_SIZES[dtype]
