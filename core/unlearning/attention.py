"""Spatial attention of a network's stages: where each of its last feature maps looks.

A(F) = sum_c |F_c|^p, scaled to length 1 over places (Zagoruyko and Komodakis, ICLR 2017).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from core.errors import UsageError
from core.types import Encoder, Images
from core.unlearning.clean_training import features_of


def attention(maps: Tensor, power: float) -> Tensor:
    """Feature maps ``[B, C, H, W]`` to attention ``[B, H * W]`` fp32, each row of length 1."""
    return normalize(maps.float().abs().pow(power).sum(1).flatten(1), dim=1)


def last_stages(encoder: Encoder, images: Images, count: int = 3) -> list[str]:
    """Names of the modules that end the last ``count`` resolutions, in the order in which a forward pass comes to them.

    Top-level children are looked at first, then those inside of plain sequences, until there are enough resolutions; a
    network with fewer gives what it has.

    Raises:
        UsageError: there is no feature map of more than one place (a transformer).
    """
    level = dict(encoder.backbone.named_children())
    while True:
        ends = _ends(encoder, level, images)
        sequences = [name for name, module in level.items() if isinstance(module, nn.Sequential)]
        if len(ends) >= count or not sequences:
            break
        for name in sequences:
            sequence = level.pop(name)
            level |= {f"{name}.{child}": module for child, module in sequence.named_children()}
    if not ends:
        raise UsageError(
            "no_feature_maps",
            field="parameters.purification.method",
            found="a network whose stages give no feature maps",
            expected="a convolutional network; attention is taken over the places of feature maps",
            action="Use another method, such as 'ssl-kd' or the default.",
        )
    return ends[-count:]


@contextmanager
def captured(encoder: Encoder, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """A dict that holds the outputs of the backbone's modules ``names`` after each forward pass."""
    outputs: dict[str, Tensor] = {}
    handles = [_keep(encoder.backbone.get_submodule(name), name, outputs) for name in names]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _keep(module: nn.Module, name: str, outputs: dict[str, Any]) -> torch.utils.hooks.RemovableHandle:
    def keep(_: nn.Module, inputs: Any, output: Any) -> None:
        outputs.pop(name, None)  # so that the order is that of the last forward pass
        outputs[name] = output

    return module.register_forward_hook(keep)


@torch.no_grad()
def _ends(encoder: Encoder, modules: dict[str, nn.Module], images: Images) -> list[str]:
    """The last of ``modules`` at each resolution, as a forward pass comes to them."""
    with captured(encoder, list(modules)) as outputs:
        features_of(encoder, images[:2])
    last: dict[tuple[int, ...], str] = {}
    for name, output in outputs.items():
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            last.pop(tuple(output.shape[2:]), None)
            last[tuple(output.shape[2:])] = name
    return list(last.values())
