"""The child process that opens a PyTorch checkpoint, under limits: ``python -m core.encoders.convert OUTPUT``.

The checkpoint is standard input (a file), already inspected; the result is a safetensors file at OUTPUT whose tensors
are numbered, with their paths and the plain values beside them as JSON in its metadata. On a refusal one JSON object
is printed on standard output and the exit status is 3. Started by ``core.encoders.sandbox`` only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from core.encoders.arrays import read_arrays
from core.encoders.inert import Inert, Refused, TensorRecord
from core.encoders.inspect_safetensors import TENSOR_NAME
from core.encoders.inspect_zip import holds_arrays
from core.encoders.storages import Numbers, open_legacy, open_zip

MAX_DEPTH = 16
MAX_NODES = 200_000
MAX_SCALARS = 2_000
_CPU_SECONDS = 300
_BASE_ADDRESS_SPACE = 8 * 2**30  # importing torch with CUDA libraries alone maps more than 3 GiB
_CLONE_NEWUSER, _CLONE_NEWNET, _PR_SET_NO_NEW_PRIVS = 0x10000000, 0x40000000, 38


def confine(size: int) -> None:
    """Give up what opening a file of ``size`` bytes does not need: memory, time, disk, new privileges, the network."""
    limits = {
        resource.RLIMIT_AS: _BASE_ADDRESS_SPACE + 10 * size,
        resource.RLIMIT_CPU: _CPU_SECONDS,
        resource.RLIMIT_FSIZE: 5 * size + 64 * 2**20,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in limits.items():
        _, hard = resource.getrlimit(kind)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # An empty network namespace, where the kernel lets a process make one. Where it does not, the inspection and
        # weights_only still hold; this is the third wall, not the first.
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


@dataclass
class Contents:
    """Nested dicts as lists: tensors and plain values by path, ``left_out`` the tensors that no state dict would name
    so (escaped), ``emptied`` the classes of objects whose tensors were read without their code."""

    tensors: list[tuple[list[str], Any]] = field(default_factory=list)
    scalars: list[tuple[list[str], Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    emptied: dict[str, None] = field(default_factory=dict)


def flatten(checkpoint: Any) -> Contents:
    """The contents of a checkpoint, iteratively, with a bound on depth and on the number of values, so that no nesting
    can exhaust memory."""
    found = Contents()
    visited: set[int] = set()
    pending: list[tuple[list[str], Any, bool]] = [([], checkpoint, True)]
    nodes = 0
    while pending:
        path, value, named = pending.pop()
        nodes += 1
        if nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise Refused("unsafe_checkpoint", "a checkpoint nested too deeply or holding too many values")
        if isinstance(value, TensorRecord):
            name = ".".join(path)
            if named and TENSOR_NAME.fullmatch(name):
                found.tensors.append((path, value))
            else:
                found.left_out.append(ascii(name)[1:-1][:200])
        elif isinstance(value, dict | list | tuple | Inert):
            if id(value) in visited:
                continue  # an alias or a cycle: its contents are known by their first path
            visited.add(id(value))
            children = [([*path, str(key)], item, named and isinstance(key, str)) for key, item in _children(value)]
            if nodes + len(pending) + len(children) > MAX_NODES:
                raise Refused("unsafe_checkpoint", "a checkpoint holding too many values")
            if isinstance(value, Inert) and children:
                found.emptied[value.global_name] = None
            pending.extend(reversed(children))
        elif named and _is_plain(value) and len(found.scalars) < MAX_SCALARS:
            found.scalars.append((path, value))
    return found


def _children(value: Any) -> Iterable[tuple[Any, Any]]:
    """What lies directly inside: of a network without its class its parameters, buffers and layers."""
    if isinstance(value, dict):
        return value.items()
    if not isinstance(value, Inert):
        return enumerate(value)
    state = value.state if isinstance(value.state, dict) else {}
    if all(isinstance(state.get(part), dict) for part in ("_parameters", "_buffers", "_modules")):
        passing = state.get("_non_persistent_buffers_set")
        passing = passing if isinstance(passing, set) else set()
        buffers = {key: item for key, item in state["_buffers"].items() if key not in passing}
        return [*state["_parameters"].items(), *buffers.items(), *state["_modules"].items()]
    if value.global_name.startswith("__torch__."):
        return [(key, item) for key, item in state.items() if isinstance(item, TensorRecord | Inert)]
    return value.items.items()


def _is_plain(value: Any) -> bool:
    """Whether ``value`` is a number, a flag or a short text: what a checkpoint keeps beside its weights."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**63
    return value is None or isinstance(value, bool | float) or (isinstance(value, str) and len(value) < 10_000)


def convert(file: BinaryIO, output: str, file_size: int) -> None:
    """Read ``file`` without running any of it and write its tensors to ``output``."""
    import torch
    from safetensors.torch import save_file

    zipped = file.read(4) == b"PK\x03\x04"
    file.seek(0)
    if zipped and _is_npz(file):
        _convert_arrays(file, output, file_size)
        return
    opened = open_zip(file) if zipped else open_legacy(file)
    found = flatten(opened.content)
    if not found.tensors:
        raise Refused("no_tensors", "a checkpoint without a single named tensor")
    numbers = Numbers(file, opened.spans, file_size)
    tensors = [numbers.tensor(record, ".".join(path)[:120]) for path, record in found.tensors]
    # Two names for one storage are common (a teacher that starts as its student); a thousand are an attack.
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if total > 4 * file_size + 2**20:
        raise Refused("unsafe_checkpoint", f"tensors that claim {total} bytes in a file of {file_size}")
    metadata = {
        "paths": json.dumps([path for path, _ in found.tensors]),
        "scalars": json.dumps(found.scalars),
        "left_out": json.dumps(found.left_out),
        "emptied": json.dumps([*found.emptied]),
        "skipped": json.dumps([name for name in opened.skipped if name not in found.emptied]),
    }
    # Every tensor is copied: safetensors refuses shared storage, and views must become plain numbers.
    numbered = {str(i): tensor.clone(memory_format=torch.contiguous_format) for i, tensor in enumerate(tensors)}
    save_file(numbered, output, metadata=metadata)


def _is_npz(file: BinaryIO) -> bool:
    with zipfile.ZipFile(file) as archive:
        found = holds_arrays(archive)
    file.seek(0)
    return found


def _convert_arrays(file: BinaryIO, output: str, file_size: int) -> None:
    from safetensors.torch import save_file

    tensors, left_out = read_arrays(file, file_size)
    named = {name: tensor for name, tensor in tensors.items() if TENSOR_NAME.fullmatch(name)}
    left_out += [name for name in tensors if name not in named]
    if not named:
        raise Refused("no_tensors", "an archive without a single named array of numbers")
    metadata = {
        "paths": json.dumps([[name] for name in named]),
        "scalars": "[]",
        "left_out": json.dumps([ascii(name)[1:-1][:200] for name in left_out]),
        "emptied": "[]",
        "skipped": "[]",
    }
    save_file({str(i): tensor for i, tensor in enumerate(named.values())}, output, metadata=metadata)


def main(output: str) -> int:
    size = os.fstat(0).st_size
    confine(size)
    with contextlib.redirect_stdout(sys.stderr):
        with open(0, "rb", closefd=False) as file:
            file.seek(0)
            try:
                convert(file, output, size)
                return 0
            except Refused as refusal:
                answer = {"code": refusal.code, "found": str(refusal)}
            except Exception as failure:  # noqa: BLE001 - whatever a hostile file makes the reader raise, the parent reports
                answer = {"code": "unreadable_checkpoint", "found": f"{type(failure).__name__}: {failure}"[:400]}
    sys.stdout.write(json.dumps(answer))
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
