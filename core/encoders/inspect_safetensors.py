"""The gate before a safetensors file is opened: its header, read by us and bounded.

The safetensors library takes duplicate keys (the last one wins), hundreds of thousands of empty tensors and control
characters in names. A file that passes here means the same to every reader of it.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from core.errors import UnsupportedInput

MAX_HEADER_BYTES = 8 * 2**20
MAX_TENSORS = 20_000
MAX_TOTAL_BYTES = 16 * 2**30
TENSOR_NAME = re.compile(r"[A-Za-z0-9_.\-/]{1,256}")
DTYPE_BYTES: Mapping[str, int] = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}


@dataclass(frozen=True)
class SafetensorsHeader:
    """``shapes`` by tensor name, in the file's order; ``metadata`` is the file's own text."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def inspect_safetensors(file: BinaryIO, size: int) -> SafetensorsHeader:
    """Check the header of an open safetensors file of ``size`` bytes; reads nothing but the header.

    Raises:
        UnsupportedInput: ``truncated_safetensors`` when bytes are missing, ``unsafe_safetensors`` when the header is
            malformed, contradictory or beyond the limits.
    """
    prefix = file.read(8)
    if len(prefix) < 8:
        _truncated(f"a file of {size} bytes, too short for a header")
    (length,) = struct.unpack("<Q", prefix)
    if length > MAX_HEADER_BYTES:
        _refuse(f"a header that claims {length} bytes", f"at most {MAX_HEADER_BYTES} bytes of header")
    if 8 + length > size:
        _truncated(f"a header of {length} bytes in a file of {size} bytes")
    header = _parse(file.read(length))
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse("metadata that is not text", "metadata of strings")
    if len(header) > MAX_TENSORS:
        _refuse(f"{len(header)} tensors", f"at most {MAX_TENSORS} tensors")
    spans = [_span(name, entry) for name, entry in header.items()]
    _contiguous(spans, size - 8 - length)
    return SafetensorsHeader({name: tuple(entry["shape"]) for name, entry in header.items()}, metadata)


def _parse(text: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            _refuse("a header that names the same key twice", "each tensor once")
        return dict(pairs)

    try:
        header = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        _refuse("a header that is not JSON", "the JSON header of a safetensors file")
    if not isinstance(header, dict):
        _refuse("a header that is not an object", "the JSON header of a safetensors file")
    return header


def _span(name: str, entry: Any) -> tuple[int, int]:
    if not TENSOR_NAME.fullmatch(name):
        _refuse(f"a tensor named {ascii(name)[:80]}", "names of letters, digits and _ . - / only")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _refuse(f"a malformed entry for {name}", "dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        _refuse(f"{name} of type {ascii(dtype)[:40]}", f"one of {', '.join(DTYPE_BYTES)}")
    if not _naturals(shape) or len(shape) > 8:
        _refuse(f"a malformed shape for {name}", "up to 8 sizes")
    if not _naturals(offsets) or len(offsets) != 2:
        _refuse(f"malformed offsets for {name}", "a begin and an end")
    if offsets[1] - offsets[0] != math.prod(shape) * DTYPE_BYTES[dtype]:
        _refuse(f"{name} whose shape and bytes disagree", "as many bytes as the shape needs")
    return offsets[0], offsets[1]


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**48 for value in values)


def _contiguous(spans: list[tuple[int, int]], available: int) -> None:
    position = 0
    for begin, end in sorted(spans):
        if begin != position:
            _refuse("tensors that overlap or leave holes", "tensors one after the other")
        position = end
    if position > MAX_TOTAL_BYTES:
        _refuse(f"{position} bytes of tensors", f"at most {MAX_TOTAL_BYTES} bytes")
    if position > available:
        _truncated(f"{available} bytes of tensors where the header promises {position}")
    if position < available:
        _refuse(f"{available - position} bytes after the last tensor", "nothing after the last tensor")


def _truncated(found: str) -> NoReturn:
    raise UnsupportedInput(
        "truncated_safetensors",
        field="encoder",
        found=found,
        expected="a complete safetensors file",
        action="The file was cut off or damaged on its way; copy it again.",
    )


def _refuse(found: str, expected: str) -> NoReturn:
    raise UnsupportedInput(
        "unsafe_safetensors",
        field="encoder",
        found=found,
        expected=expected,
        action="Write the file again with safetensors.torch.save_file.",
    )
