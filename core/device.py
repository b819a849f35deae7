"""The one place that names a device or a precision."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from core.errors import UsageError

_PINNED_AT_MOST = 2**24
"""Bytes of a tensor that is worth pinning; PyTorch keeps what was pinned once."""


def resolve_device(name: str) -> torch.device:
    """``auto`` (a GPU when there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UsageError: the name is not of that form, or the machine has no such GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(
            "unknown_device",
            field="device",
            found=f"'{name}'",
            expected="auto, cpu, cuda or cuda:N",
            action="Choose one of these.",
        )
    available = torch.cuda.device_count() if device.type == "cuda" else 0
    if device.type == "cuda" and (device.index or 0) >= available:
        raise UsageError(
            "no_such_device",
            field="device",
            found=f"'{name}' on a machine with {available} CUDA device(s)",
            expected="a device that exists",
            action="Use --device cpu, or auto to take a GPU when there is one.",
        )
    return device


def is_gpu(device: torch.device) -> bool:
    """Whether ``device`` is a GPU."""
    return device.type == "cuda"


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """``tensor`` on ``device``; the processor does not wait for a GPU to get there.

    A plain ``to`` from ordinary memory does: PyTorch waits until the GPU has done all that it was given, at every batch
    of indices and every drawn number. Memory that stays where it is can be copied when the GPU comes to it.
    """
    device = torch.device(device)
    ordinary = tensor.device.type == "cpu" and not tensor.requires_grad
    if not is_gpu(device) or not ordinary or tensor.nbytes > _PINNED_AT_MOST:
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)


def to_like(tensor: Tensor, model: Tensor) -> Tensor:
    """``tensor`` with the type of ``model`` and on its device, as :func:`to_device` brings it there."""
    return to_device(tensor.to(model.dtype), model.device)


def numbered_gpu(number: int) -> torch.device:
    """GPU ``number`` of this machine."""
    return torch.device("cuda", number)


def collective_backend(device: torch.device) -> str:
    """What processes that train together on such devices speak with one another."""
    return "nccl" if is_gpu(device) else "gloo"


def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products run on the device's own units, rather than being emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())


def mixed_precision(
    device: torch.device, network: nn.Module | None = None, *, enabled: bool = True
) -> AbstractContextManager[object]:
    """bf16 autocast where the hardware has it and ``network`` gains by it, otherwise full precision.

    Losses and statistics stay in fp32.
    """
    gains = fast_bf16(device) and not (device.type == "cpu" and network is not None and has_grouped(network))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled and gains)


def has_grouped(network: nn.Module) -> bool:
    """Whether ``network`` has grouped convolutions (ShuffleNet, MobileNet): on a processor the backward pass of those
    takes twice as long in bf16 as in fp32 (``make bench``)."""
    return any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in network.modules())
