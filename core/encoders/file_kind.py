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

_SAVE = "Save model.state_dict() with safetensors.torch.save_file."
_UNPACK = "Unpack it and give the file of weights inside."
_KERAS = (
    "The audit runs PyTorch networks of torchvision, timm, transformers and open_clip: load the weights into the same "
    "architecture there, then safetensors.torch.save_file(model.state_dict(), 'encoder.safetensors')."
)
_ONNX = (
    "A graph cannot be audited: the search needs gradients through a network of PyTorch. Save the weights of the model "
    "that was exported: safetensors.torch.save_file(model.state_dict(), 'encoder.safetensors')."
)
_PULL = (
    "In the cloned repository run 'git lfs pull', or download the file itself (the button on the model's page, "
    "or 'hf download' for a model of the Hugging Face Hub)."
)
_RAW = "Download the file itself, not the page about it, by the site's raw or download link; log in where it asks."

_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer of a few lines, not the weights it stands for", _PULL),
    (b"\x89HDF", "an HDF5 file (Keras)", _KERAS),
    (b"GGUF", "a GGUF file", "GGUF holds quantised language models; save the encoder's state dict instead. " + _SAVE),
    (
        b"\x93NUMPY",
        "a single NumPy array",
        "Save all arrays of the encoder by name: numpy.savez('encoder.npz', **arrays).",
    ),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ", "an xz archive", _UNPACK),
    (b"(\xb5/\xfd", "a zstandard archive", _UNPACK),
    (b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x89PNG", "a PNG image", "Images are the second argument; give the file of weights first."),
    (b"\xff\xd8\xff", "a JPEG image", "Images are the second argument; give the file of weights first."),
)
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")


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
    foreign = _foreign(head, suffix)
    if foreign is None and suffix == ".safetensors":
        raise UnsupportedInput(
            "truncated_safetensors",
            field="encoder",
            found=f"a file of {size} bytes that does not start with a safetensors header",
            expected="a complete safetensors file",
            action="The file was cut off or damaged on its way; copy it again.",
        )
    if foreign is None and (head[:1] == b"\x80" or suffix in _CHECKPOINT_SUFFIXES):
        return FileKind.LEGACY_CHECKPOINT
    found, action = foreign or ("a file that is neither safetensors nor a PyTorch checkpoint", _SAVE)
    raise UnsupportedInput(
        "unknown_format",
        field="encoder",
        found=found,
        expected="a safetensors file, or a state dict saved by torch.save (.pt, .pth)",
        action=action,
    )


def _foreign(head: bytes, suffix: str) -> tuple[str, str] | None:
    """What a file of another kind is, and what to do about it."""
    for magic, words, action in _FOREIGN:
        if head.startswith(magic):
            return words, action
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if suffix == ".onnx" or (head[:1] == b"\x08" and b"pytorch" in head):
        return "an ONNX graph", _ONNX
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.lower().startswith(_PAGES):
        return "an HTML page, as a site shows it around a download or in place of one", _RAW
    if start.startswith((b"<?xml", b"<Error>")):
        return "an XML answer, as a storage server gives it in place of a file", _RAW
    if start.startswith((b"{", b"[")) and b"\0" not in head:
        return (
            "a JSON text",
            "Give the file of weights; for a sharded model of transformers, the folder with all files.",
        )
    return None
