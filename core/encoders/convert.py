"""The child process that opens a PyTorch checkpoint, under limits: ``python -m core.encoders.convert OUTPUT``.

The checkpoint is standard input (a file), already inspected; the result is a safetensors file at OUTPUT whose tensors
are numbered, with their paths and the plain values beside them as JSON in its metadata. On a refusal one JSON object
is printed on standard output and the exit status is 3. Started by ``core.encoders.sandbox`` only.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import resource
import sys
from typing import Any, BinaryIO

from core.encoders.inspect_safetensors import TENSOR_NAME

MAX_DEPTH = 16
MAX_NODES = 200_000
MAX_SCALARS = 2_000
_CPU_SECONDS = 300
_BASE_ADDRESS_SPACE = 8 * 2**30  # importing torch with CUDA libraries alone maps more than 3 GiB
_CLONE_NEWUSER, _CLONE_NEWNET, _PR_SET_NO_NEW_PRIVS = 0x10000000, 0x40000000, 38


class Refused(Exception):
    """What the checkpoint holds that no encoder needs: ``code`` and words for the user."""

    def __init__(self, code: str, found: str) -> None:
        super().__init__(found)
        self.code = code


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


def flatten(checkpoint: Any) -> tuple[list[tuple[list[str], Any]], list[tuple[list[str], Any]], list[str]]:
    """Tensors and plain values of nested dicts by path, and the paths of tensors left out (not named by text).

    Iterative, with a bound on depth and on the number of values, so that no nesting can exhaust memory.
    """
    import torch

    tensors: list[tuple[list[str], Any]] = []
    scalars: list[tuple[list[str], Any]] = []
    left_out: list[str] = []
    visited: set[int] = set()
    pending: list[tuple[list[str], Any, bool]] = [([], checkpoint, True)]
    nodes = 0
    while pending:
        path, value, named = pending.pop()
        nodes += 1
        if nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise Refused("unsafe_checkpoint", "a checkpoint nested too deeply or holding too many values")
        if isinstance(value, torch.Tensor):
            name = ".".join(path)
            if not named:
                left_out.append(ascii(name)[1:-1][:200])
            elif TENSOR_NAME.fullmatch(name):
                tensors.append((path, value))
            else:
                raise Refused("unsafe_checkpoint", f"a tensor named {name!a:.100}")
        elif isinstance(value, dict | list | tuple | argparse.Namespace):
            if id(value) in visited:
                continue  # an alias or a cycle: its contents are known by their first path
            visited.add(id(value))
            if isinstance(value, argparse.Namespace):
                continue
            items = value.items() if isinstance(value, dict) else enumerate(value)
            children = [([*path, str(key)], item, named and isinstance(key, str)) for key, item in items]
            if nodes + len(pending) + len(children) > MAX_NODES:
                raise Refused("unsafe_checkpoint", "a checkpoint holding too many values")
            pending.extend(reversed(children))
        elif named and _is_plain(value) and len(scalars) < MAX_SCALARS:
            scalars.append((path, value))
    return tensors, scalars, left_out


def _is_plain(value: Any) -> bool:
    """Whether ``value`` is a number, a flag or a short text: what a checkpoint keeps beside its weights."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 2**63
    return value is None or isinstance(value, bool | float) or (isinstance(value, str) and len(value) < 10_000)


def dense(path: list[str], tensor: Any, file_size: int) -> Any:
    """``tensor`` as plain numbers, or a refusal: sparse, quantised, without data, or far larger than its bytes."""
    import torch

    name = ascii(".".join(path))[1:-1][:120]
    allowed = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8} | {
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
    }
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in allowed:
        raise Refused("unsafe_checkpoint", f"{name} is a {tensor.layout} tensor of {tensor.dtype} on {tensor.device}")
    needed = tensor.numel() * tensor.element_size()
    if needed > tensor.untyped_storage().nbytes() or needed > file_size:
        raise Refused("unsafe_checkpoint", f"{name} claims {needed} bytes, more than the file holds for it")
    return tensor.detach()


def convert(file: BinaryIO, output: str, file_size: int) -> None:
    """Open ``file`` with ``weights_only`` and write its tensors to ``output``."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    scalar = np.float64(0).__reduce__()[0]
    numeric = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    allowed: list[Any] = [argparse.Namespace, np.dtype, *numeric]
    allowed += [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    with torch.serialization.safe_globals(allowed):
        checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    tensors, scalars, left_out = flatten(checkpoint)
    if not tensors:
        raise Refused("no_tensors", "a checkpoint without a single named tensor")
    tensors = [(path, dense(path, tensor, file_size)) for path, tensor in tensors]
    # Two names for one storage are common (a teacher that starts as its student); a thousand are an attack.
    total = sum(tensor.numel() * tensor.element_size() for _, tensor in tensors)
    if total > 4 * file_size + 2**20:
        raise Refused("unsafe_checkpoint", f"tensors that claim {total} bytes in a file of {file_size}")
    paths = [path for path, _ in tensors]
    metadata = {"paths": json.dumps(paths), "scalars": json.dumps(scalars), "left_out": json.dumps(left_out)}
    # Every tensor is copied: safetensors refuses shared storage, and views must become plain numbers.
    numbered = {str(i): tensor.clone(memory_format=torch.contiguous_format) for i, (_, tensor) in enumerate(tensors)}
    save_file(numbered, output, metadata=metadata)


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
            except Exception as failure:  # noqa: BLE001 - whatever torch raises about a hostile file, the parent reports
                answer = {"code": "unreadable_checkpoint", "found": f"{type(failure).__name__}: {failure}"[:400]}
    sys.stdout.write(json.dumps(answer))
    return 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
