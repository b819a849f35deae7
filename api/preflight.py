"""What can be said about an uploaded file without opening it as weights or images: cheap, before anything is stored.

These checks turn away what certainly cannot be audited. Whether a file is safe and usable is decided by the worker.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from api.errors import RequestProblem, input_problem
from api.image_preflight import EXPECTED_IMAGES, check_images
from api.quarantine import ArrivedFile

_ZIP_MEMBER = b"PK\x03\x04"
_PICKLE_PROTOCOL = 0x80  # first byte of a pickle since protocol 2, as PyTorch's old checkpoints are
_LONGEST_HEADER = 16 * 1024 * 1024  # bytes of safetensors' JSON header; real ones have some 100 kB
_AGAIN = "Upload the file again; the copy you have may be incomplete."


def check_file(name: str, file: ArrivedFile) -> None:
    """Let ``file`` pass as the input ``name``.

    Raises:
        RequestProblem: 422, saying what was found and what would be right.
    """
    if file.size == 0:
        raise input_problem(
            "empty_file",
            f"/{name}",
            f"The file sent as '{name}' is empty.",
            expected=_EXPECTED[name],
            action=_AGAIN,
        )
    _GATES[name](file)


def _check_encoder(file: ArrivedFile) -> None:
    start = _first_bytes(file.path)
    if start.startswith(_ZIP_MEMBER):
        if not zipfile.is_zipfile(file.path):
            raise _refusal("truncated_checkpoint", "The checkpoint is a zip file without its end.", _AGAIN)
    elif start[0] == _PICKLE_PROTOCOL and len(start) > 1 and start[1] in range(2, 6):
        return  # an old PyTorch checkpoint; the worker opens it with everything but tensors forbidden
    elif start.startswith(b"version https://"):
        raise _refusal(
            "not_an_encoder",
            "The file is a Git LFS pointer of a few lines, not the weights it stands for.",
            "In the cloned repository run 'git lfs pull', then send the file; or download the file itself.",
        )
    elif start.lstrip()[:1] == b"<":
        raise _refusal(
            "not_an_encoder",
            "The file is an HTML page or an XML answer of a server, not the weights.",
            "Download the file itself, by the site's raw or download link, and send that.",
        )
    else:
        _check_safetensors(file, start)


def _check_safetensors(file: ArrivedFile, start: bytes) -> None:
    length = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:9] != b"{" or length < 2:
        raise _refusal(
            "not_an_encoder",
            "The file is neither safetensors nor a PyTorch checkpoint.",
            "Send the encoder's weights, saved with safetensors or torch.save.",
        )
    if length > _LONGEST_HEADER:
        raise _refusal(
            "malformed_safetensors",
            f"The file announces a header of {length} bytes.",
            "Save the weights again with the safetensors library.",
        )
    if 8 + length > file.size:
        raise _truncated(f"The file ends inside its header: {8 + length} bytes are announced, it holds {file.size}.")
    with file.path.open("rb") as stream:
        stream.seek(8)
        text = stream.read(length)
    announced = _announced_bytes(text)
    held = file.size - 8 - length
    if announced > held:
        raise _truncated(f"The encoder's header announces {announced} bytes of weights, the file holds {held}.")
    if announced < held:
        raise _malformed(f"The file holds {held} bytes of weights, its header describes only {announced}.")


def _announced_bytes(text: bytes) -> int:
    """The end of the last tensor that a safetensors header describes."""
    try:
        header: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed("The file's header is not JSON.") from error
    tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if not tensors:
        raise _malformed("The file's header describes no tensor.")
    ends = [_end_of(entry) for entry in tensors.values()]
    if None in ends:
        raise _malformed("The file's header describes a tensor without its place in the file.")
    return max(end for end in ends if end is not None)


def _end_of(entry: Any) -> int | None:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    if not isinstance(offsets, list) or len(offsets) != 2:
        return None
    begin, end = offsets
    # bool is an int in Python, not in a file format
    if type(begin) is not int or type(end) is not int or not 0 <= begin <= end:
        return None
    return end


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(16)


def _truncated(detail: str) -> RequestProblem:
    return _refusal("truncated_safetensors", detail, _AGAIN)


def _malformed(detail: str) -> RequestProblem:
    return _refusal("malformed_safetensors", detail, "Save the weights again with the safetensors library.")


def _refusal(code: str, detail: str, action: str) -> RequestProblem:
    return input_problem(code, "/encoder", detail, expected=_EXPECTED["encoder"], action=action)


_GATES: Mapping[str, Callable[[ArrivedFile], None]] = {"encoder": _check_encoder, "images": check_images}
_EXPECTED: Mapping[str, str] = {
    "encoder": "a complete safetensors file or PyTorch checkpoint",
    "images": EXPECTED_IMAGES,
}
