"""Checkpoints without pickle: tensors in safetensors, everything else as JSON in its header.

A checkpoint travels through object storage, so it is read back as untrusted data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from core.run import StateDict

_TENSOR = "__tensor__"


def save_checkpoint(path: Path, state: StateDict) -> None:
    """Write ``state`` to ``path`` at once: a crash leaves the old file or the new one, never half of one.

    Raises:
        TypeError: ``state`` holds something that is not a tensor, number, string, boolean, None, list or dict.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = _to_json(dict(state), tensors)
    temporary = path.with_suffix(path.suffix + ".part")
    save_file(tensors, temporary, metadata={"state": json.dumps(tree)})
    temporary.replace(path)


def load_checkpoint(path: Path) -> StateDict:
    """What :func:`save_checkpoint` wrote, tensors on the CPU."""
    with safe_open(path, framework="pt") as file:
        tree = json.loads((file.metadata() or {})["state"])
        restored: StateDict = _from_json(tree, file)
        return restored


def _to_json(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        key = str(len(tensors))
        tensors[key] = value.detach().cpu().clone().contiguous()
        return {_TENSOR: key}
    if isinstance(value, dict):
        # JSON keys are strings, but optimisers number their parameters: keep each key with its type.
        return {"__dict__": [[key, _to_json(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_to_json(item, tensors) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint cannot hold {type(value).__name__}")


def _from_json(value: Any, file: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item, file) for item in value]
    if isinstance(value, dict):
        if _TENSOR in value:
            return file.get_tensor(value[_TENSOR])
        return {key: _from_json(item, file) for key, item in value["__dict__"]}
    return value
