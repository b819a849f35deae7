"""A network's stages: the modules whose outputs stand between its pixels and its features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import UsageError
from core.micro_batches import features_of
from core.types import Encoder, Images


def intermediate_stages(encoder: Encoder, images: Images, count: int = 3) -> list[str]:
    """Names of ``count`` modules to compare a student with its teacher at, in the order of a forward pass.

    Of a network with feature maps those that end its last resolutions; of a transformer, whose blocks all have one
    size, blocks at even distances, the last one included. Fewer, or none, where a network has no more.
    """
    ends = _ends_of_resolutions(encoder, images, count)
    if len(ends) > 1:
        return ends
    return _blocks(encoder, images, count) or ends  # a transformer's only map is that of its patches


def last_resolutions(encoder: Encoder, images: Images, count: int = 3) -> list[str]:
    """Names of the modules that end the last ``count`` resolutions, in the order in which a forward pass comes to them.

    Raises:
        UsageError: there is no feature map of more than one place (a transformer).
    """
    ends = _ends_of_resolutions(encoder, images, count)
    if not ends:
        raise UsageError(
            "no_feature_maps",
            field="parameters.purification.method",
            found="a network whose stages give no feature maps",
            expected="a convolutional network; attention is taken over the places of feature maps",
            action="Use another method, such as 'ssl-kd' or the default.",
        )
    return ends


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


def _ends_of_resolutions(encoder: Encoder, images: Images, count: int) -> list[str]:
    """Top-level children are looked at first, then those inside of plain sequences, until there are enough
    resolutions; a network with fewer gives what it has."""
    level = dict(encoder.backbone.named_children())
    while True:
        ends: dict[torch.Size, str] = {}
        for name, output in _outputs(encoder, list(level), images).items():
            if output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
                ends.pop(output.shape[2:], None)  # the last module of a resolution ends it
                ends[output.shape[2:]] = name
        sequences = [name for name, module in level.items() if isinstance(module, nn.Sequential)]
        if len(ends) >= count or not sequences:
            return list(ends.values())[-count:]
        for name in sequences:
            sequence = level.pop(name)
            level |= {f"{name}.{child}": module for child, module in sequence.named_children()}


def _blocks(encoder: Encoder, images: Images, count: int) -> list[str]:
    """Of the outermost sequence of modules that give tokens ``[B, N, C]``, ``count`` at even distances."""
    sequences = [
        (name, module)
        for name, module in encoder.backbone.named_modules()
        if isinstance(module, nn.Sequential | nn.ModuleList)
    ]
    for name, sequence in sorted(sequences, key=lambda named: named[0].count(".")):
        children = [f"{name}.{child}".lstrip(".") for child, _ in sequence.named_children()]
        blocks = [child for child, output in _outputs(encoder, children, images).items() if output.ndim == 3]
        if blocks:
            count = min(count, len(blocks))
            return [blocks[len(blocks) * place // count - 1] for place in range(1, count + 1)]
    return []


@torch.no_grad()
def _outputs(encoder: Encoder, names: Sequence[str], images: Images) -> dict[str, Tensor]:
    """Outputs of the modules that a forward pass of a few images comes to, in its order; tensors only."""
    with captured(encoder, names) as outputs:
        features_of(encoder, images[:2])
    return {name: output for name, output in outputs.items() if isinstance(output, Tensor)}
