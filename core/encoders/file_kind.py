"""What kind of file a file of weights is, by its first bytes; its name only makes the refusal clearer."""

from __future__ import annotations

import struct
from enum import Enum, auto
from pathlib import PurePosixPath
from typing import BinaryIO

from core.errors import UnsupportedInput


class FileKind(Enum):
    SAFETENSORS = auto()
    ZIP_CHECKPOINT = auto()
    LEGACY_CHECKPOINT = auto()


_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt", ".tar", ".bin", ".pkl", ".pickle")

_FOREIGN = {
    b"\x89HDF": "an HDF5 file (Keras)",
    b"GGUF": "a GGUF file",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "a gzip archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
}


def recognise(file: BinaryIO, size: int, name: str) -> FileKind:
    """The kind of an open file of ``size`` bytes which the user calls ``name``.

    Raises:
        UnsupportedInput: ``empty_file``, ``truncated_safetensors`` or ``unknown_format``.
    """
    suffix = PurePosixPath(name.lower()).suffix
    if size == 0:
        raise UnsupportedInput(
            "empty_file",
            field="encoder",
            found="an empty file",
            expected="a file of encoder weights",
            action="The upload or the copy failed; try it again.",
        )
    head = file.read(512)
    if head[:4] == b"PK\x03\x04":
        return FileKind.ZIP_CHECKPOINT
    if len(head) >= 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 2**40:
        return FileKind.SAFETENSORS
    if suffix == ".safetensors":
        raise UnsupportedInput(
            "truncated_safetensors",
            field="encoder",
            found=f"a file of {size} bytes that does not start with a safetensors header",
            expected="a complete safetensors file",
            action="The file was cut off or damaged on its way; copy it again.",
        )
    foreign = _foreign(head, suffix)
    if foreign is None and (head[:1] == b"\x80" or suffix in _CHECKPOINT_SUFFIXES):
        return FileKind.LEGACY_CHECKPOINT
    raise UnsupportedInput(
        "unknown_format",
        field="encoder",
        found=foreign or "a file that is neither safetensors nor a PyTorch checkpoint",
        expected="a safetensors file, or a state dict saved by torch.save (.pt, .pth)",
        action="Save model.state_dict() with safetensors.torch.save_file.",
    )


def _foreign(head: bytes, suffix: str) -> str | None:
    if head[257:262] == b"ustar":
        return "a tar archive"
    if suffix == ".onnx" or (head[:1] == b"\x08" and b"pytorch" in head):
        return "an ONNX graph"
    return next((words for magic, words in _FOREIGN.items() if head.startswith(magic)), None)
