"""BatchNorm folded into the convolution before it: in eval mode it is one more factor and one more summand per channel.

A frozen encoder passes tens of thousands of images, and its BatchNorm layers read and write every feature map once
more than needed. Which layer follows which is seen in a pass of the network itself, so that it works for any
architecture; that the folded copy computes the same is seen in another.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from core.types import Encoder

_WITH_ACTIVATION = "BatchNormAct2d"
"""timm's BatchNorm with an activation, by name: timm takes seconds to import, and was if there is such a layer."""

_IMAGES = 4
_SAME = 1e-4
"""Largest difference of features, relative to the largest feature, that rounding is allowed to make."""


def folded(encoder: Encoder) -> Encoder:
    """``encoder``, in eval mode and frozen, with its BatchNorm layers folded; as it is where there are none to fold, or
    where the copy's features would differ."""
    random = torch.Generator().manual_seed(0)
    images = torch.rand(_IMAGES, 3, *encoder.image_size, generator=random).to(encoder.device)
    with torch.no_grad(), torch.autocast(encoder.device.type, enabled=False):
        before, pairs = _follow(encoder, images)
        if not pairs:
            return encoder
        names = {module: name for name, module in encoder.named_modules()}
        candidate = copy.deepcopy(encoder)
        for convolution, norm in pairs:
            _fold(candidate, names[convolution], names[norm])
        after = candidate.forward(images)  # not by calling it: hooks count an audit's passes
    alike = (after - before).abs().max() <= _SAME * before.abs().max()
    return candidate if bool(alike) else encoder


def _follow(encoder: Encoder, images: Tensor) -> tuple[Tensor, list[tuple[nn.Conv2d, nn.BatchNorm2d]]]:
    """The features of ``images``, and each convolution with the BatchNorm that its output went into. Neither of the two
    has a second call."""
    made: list[tuple[nn.Conv2d, Tensor]] = []
    taken: list[tuple[nn.BatchNorm2d, Tensor]] = []
    with _hooked(encoder, made, taken):
        features = encoder.forward(images)
    convolutions, norms = [module for module, _ in made], [module for module, _ in taken]
    pairs = [
        (convolution, norm)
        for norm, seen in taken
        for convolution, output in made
        if output is seen and convolutions.count(convolution) == 1 and norms.count(norm) == 1
    ]
    return features, pairs


@contextmanager
def _hooked(
    encoder: Encoder, made: list[tuple[nn.Conv2d, Tensor]], taken: list[tuple[nn.BatchNorm2d, Tensor]]
) -> Iterator[None]:
    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made.append((module, output))
        elif isinstance(module, nn.BatchNorm2d):
            taken.append((module, inputs[0]))

    layers = [m for m in encoder.modules() if isinstance(m, nn.Conv2d) or (_is_known(m) and not m.training)]
    handles = [layer.register_forward_hook(after) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_known(module: nn.Module) -> bool:
    """Whether ``module`` is BatchNorm by statistics of its own, and nothing else but an activation after it."""
    known = type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm) or type(module).__name__ == _WITH_ACTIVATION
    return known and module.running_mean is not None


def _fold(encoder: Encoder, convolution_name: str, norm_name: str) -> None:
    convolution, norm = encoder.get_submodule(convolution_name), encoder.get_submodule(norm_name)
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    factor = (norm.running_var + norm.eps).rsqrt()
    factor = factor if norm.weight is None else factor * norm.weight
    shift = -norm.running_mean if convolution.bias is None else convolution.bias - norm.running_mean
    shift = shift * factor if norm.bias is None else shift * factor + norm.bias
    weight = convolution.weight * factor.view(-1, 1, 1, 1)
    convolution.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
    convolution.bias = nn.Parameter(shift, requires_grad=False)
    parent, _, own = norm_name.rpartition(".")
    activated = type(norm).__name__ == _WITH_ACTIVATION
    rest = nn.Sequential(norm.get_submodule("drop"), norm.get_submodule("act")) if activated else nn.Identity()
    setattr(encoder.get_submodule(parent), own, rest)
