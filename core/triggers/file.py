"""Trigger files, ``.npz``: arrays height x width x channel and a ``kind``.

``patch`` has ``mask`` (0..1) and ``pattern`` (0..255); ``add`` has ``delta`` (units of the [0, 1] image); ``blend`` has
``alpha`` and ``pattern`` in [0, 1].
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core.errors import UnsupportedInput
from core.triggers.additive import AdditiveTrigger
from core.triggers.blended import BlendedTrigger
from core.triggers.masked import MaskedTrigger

AnyTrigger = MaskedTrigger | AdditiveTrigger | BlendedTrigger


def load_trigger(path: Path) -> AnyTrigger:
    """Read a trigger file.

    Raises:
        UnsupportedInput: not a trigger file; the message names the missing array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            kind = str(file["kind"])
            if kind == "patch":
                mask = _chw(file["mask"])[:1]
                return MaskedTrigger(mask, _chw(file["pattern"]) / 255)
            if kind == "add":
                return AdditiveTrigger(_chw(file["delta"]))
            if kind == "blend":
                return BlendedTrigger(float(file["alpha"]), _chw(file["pattern"]))
    except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile, EOFError) as error:
        raise _not_a_trigger(path, str(error)) from error
    raise _not_a_trigger(path, f"kind '{kind}'")


def save_trigger(path: Path, trigger: AnyTrigger) -> None:
    """Write ``trigger`` in the form that :func:`load_trigger` reads."""
    if isinstance(trigger, MaskedTrigger):
        mask = trigger.mask.expand_as(trigger.pattern)
        np.savez(path, kind="patch", mask=_hwc(mask), pattern=_hwc(trigger.pattern) * 255)
    elif isinstance(trigger, AdditiveTrigger):
        np.savez(path, kind="add", delta=_hwc(trigger.delta))
    else:
        np.savez(path, kind="blend", alpha=trigger.alpha, pattern=_hwc(trigger.pattern))


def _chw(array: np.ndarray) -> Tensor:
    if array.ndim == 2:
        array = array[:, :, None]
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).permute(2, 0, 1).contiguous()


def _hwc(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().float().cpu().permute(1, 2, 0).numpy()
    return array


def _not_a_trigger(path: Path, found: str) -> UnsupportedInput:
    return UnsupportedInput(
        "not_a_trigger_file",
        field="trigger",
        found=f"'{path.name}': {found}",
        expected="an .npz with kind 'patch' (mask, pattern), 'add' (delta) or 'blend' (alpha, pattern)",
        action="See docs for the trigger file format.",
    )
