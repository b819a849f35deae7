"""Opening a PyTorch checkpoint in a child process, so that a hostile one meets limits and not the auditor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from safetensors.torch import load_file
from torch import Tensor

import core
from core.encoders.inspect_safetensors import inspect_safetensors
from core.errors import UnsupportedInput

_TIME_LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as plain data: tensors and plain values by their path through its nested dicts.

    ``left_out`` are tensors whose names no state dict has. No class was imported: of objects of the classes ``emptied``
    only the tensors were read, those of the classes ``skipped`` were passed over.
    """

    tensors: Mapping[tuple[str, ...], Tensor]
    scalars: Mapping[tuple[str, ...], Any]
    left_out: tuple[str, ...]
    emptied: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def open_checkpoint(file: BinaryIO) -> Checkpoint:
    """The contents of an inspected checkpoint, unpickled by a child under limits on memory, time, disk and network.

    Raises:
        UnsupportedInput: the child refused the file, could not read it, or ran into a limit.
    """
    package_root = str(Path(core.__file__).resolve().parent.parent)
    with tempfile.TemporaryDirectory(prefix="encoder-audit-") as folder:
        output = Path(folder) / "tensors.safetensors"
        try:
            child = subprocess.run(
                [sys.executable, "-P", "-m", "core.encoders.convert", str(output)],
                stdin=file,
                capture_output=True,
                cwd=folder,
                env={"PYTHONPATH": package_root, "PATH": os.defpath, "OMP_NUM_THREADS": "1"},
                timeout=_TIME_LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as failure:
            raise _refused("checkpoint_limit", f"a checkpoint not read in {_TIME_LIMIT_SECONDS} s") from failure
        if child.returncode != 0:
            raise _explain(child)
        return _read(output)


def _read(output: Path) -> Checkpoint:
    with output.open("rb") as written:
        header = inspect_safetensors(written, output.stat().st_size)
    numbered = load_file(output)
    paths = [tuple(path) for path in json.loads(header.metadata["paths"])]
    scalars = {tuple(path): value for path, value in json.loads(header.metadata["scalars"])}
    tensors = {path: numbered[str(number)] for number, path in enumerate(paths)}
    lists = (tuple(json.loads(header.metadata[key])) for key in ("left_out", "emptied", "skipped"))
    return Checkpoint(tensors, scalars, *lists)


def _explain(child: subprocess.CompletedProcess[bytes]) -> UnsupportedInput:
    try:
        answer = json.loads(child.stdout)
        return _refused(str(answer["code"]), str(answer["found"]))
    except (ValueError, KeyError, TypeError):
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        return _refused("checkpoint_limit", f"a checkpoint whose reader ended with status {child.returncode} {last}")


def _refused(code: str, found: str) -> UnsupportedInput:
    return UnsupportedInput(
        code,
        field="encoder",
        found=ascii(found)[1:-1][:400],
        expected="a checkpoint of dense tensors in nested dicts",
        action="Save model.state_dict() with safetensors.torch.save_file.",
    )
