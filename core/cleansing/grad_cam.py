"""Grad-CAM on the cluster of an image: PatchSearch's localiser, with its defects mended or, on request, kept.

A(y, x) = ReLU(sum_c w_c F_c(y, x)), w_c the mean gradient of the explained quantity with respect to map F_c, scaled up
to the image (Selvaraju et al., ICCV 2017). Explained is the nearness to the image's own centroid, z . c for the unit
feature z. The published code (``as_published``) attaches the centroids to a head that a ViT does not have, and so
explains the largest *feature channel* of a ViT; for a ResNet the feature times the centroid, not normalised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.cleansing.activation_masking import Attention
from core.cleansing.forward import Reader
from core.errors import UnsupportedInput
from core.ops.cosine import unit
from core.ops.kmeans import assign
from core.types import Encoder, Features, Images

LEAST_MAP = 4
"""Maps of fewer places a side locate nothing: at 32 pixels a ResNet's last stage is a single place."""


_MAPPING = (nn.Conv2d, nn.modules.batchnorm._BatchNorm, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU)
"""Whose four-dimensional outputs are maps; those of an attention's parts are not."""


class GradCam:
    """PatchSearch's localiser for networks with maps ``[N, C, h, w]`` or tokens ``[N, T, C]``."""

    def __init__(self, reader: Reader, centroids: Features, *, as_published: bool) -> None:
        self._reader = reader
        self._centroids = centroids
        self._as_published = as_published
        self._layer, self._tokens = explained_layer(reader.encoder)

    def __call__(self, images: Images) -> Attention:
        """Attention maps of ``images`` ``[N, 3, H, W]``."""
        maps, targets = [], []
        for part in images.split(self._reader.at_once(images, learning=True)):
            explained, target = self._explain(part)
            maps.append(functional.interpolate(explained[:, None], images.shape[2:], mode="bilinear")[:, 0])
            targets.append(target)
        return Attention(torch.cat(maps), torch.cat(targets))

    def _explain(self, images: Images) -> tuple[Tensor, Tensor]:
        encoder = self._reader.encoder
        with torch.enable_grad(), recording([encoder.get_submodule(self._layer)]) as recorded:
            features = encoder(images.clone().requires_grad_(True)).float()
            target, _ = assign(unit(features.detach()), self._centroids)
            if self._as_published and self._tokens:
                explained = features.amax(1)
            elif self._as_published:
                explained = (features * self._centroids[target]).sum(1)
            else:
                explained = (unit(features) * self._centroids[target]).sum(1)
            # A module may be used twice in a block (a ReLU): its last output counts. Each image's value depends on
            # that image only, so the sum's gradient is each one's own.
            output = recorded[-1][1]
            (gradient,) = torch.autograd.grad(explained.sum(), output)
        activation = output.detach()
        if self._tokens:
            activation, gradient = as_map(activation), as_map(gradient)
        weights = gradient.float().mean((2, 3), keepdim=True)
        return (weights * activation.float()).sum(1).clamp_min(0), target


def explained_layer(encoder: Encoder) -> tuple[str, bool]:
    """The last layer that still has places and a say in the feature, by name, and whether its output is tokens.

    For a convolutional network the last module whose output has at least :data:`LEAST_MAP` places a side; for a
    transformer the last normalisation whose patch tokens influence the feature (behind the last attention only the
    class token does).

    Raises:
        UnsupportedInput: there is none.
    """
    names = {module: name for name, module in encoder.named_modules() if not list(module.children())}
    height, width = encoder.image_size
    # Not an empty image: on one plain colour many gradients are exactly zero.
    ramp = torch.linspace(0, 1, 3 * height * width, device=encoder.device).view(1, 3, height, width)
    with torch.enable_grad(), recording(names) as recorded:
        feature = encoder(ramp.requires_grad_(True))
        outputs = [output for _, output in recorded]
        # None where an output does not lead to the feature, whatever the stubs say.
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(feature.square().sum(), outputs, allow_unused=True)
    for (module, output), gradient in reversed(list(zip(recorded, gradients, strict=True))):
        if gradient is None:
            continue
        if isinstance(module, _MAPPING) and output.ndim == 4 and min(output.shape[2:]) >= LEAST_MAP:
            return names[module], False
        if isinstance(module, nn.LayerNorm) and has_grid(output) and bool(as_map(gradient).abs().amax() > 0):
            return names[module], True
    raise UnsupportedInput(
        "no_feature_maps",
        field="encoder",
        found="no layer whose output has places and influences the feature",
        expected="a convolutional network or a vision transformer",
        action="Use the method 'poison_cam', which needs no look inside the encoder.",
    )


@contextmanager
def recording(modules: Iterable[nn.Module]) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Within the block, every output of ``modules`` that takes part in a gradient, with its module, in order."""
    recorded: list[tuple[nn.Module, Tensor]] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            recorded.append((module, output))

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def has_grid(tokens: Tensor) -> bool:
    """Whether ``tokens`` are ``[N, T, C]`` with at least :data:`LEAST_MAP` patch tokens a side."""
    return tokens.ndim == 3 and math.isqrt(tokens.shape[1]) >= LEAST_MAP


def as_map(tokens: Tensor) -> Tensor:
    """The patch tokens of ``[N, T, C]`` as maps ``[N, C, h, h]``; class and other leading tokens are left out."""
    side = math.isqrt(tokens.shape[1])
    patches = tokens[:, tokens.shape[1] - side**2 :]
    maps: Tensor = patches.transpose(1, 2).unflatten(2, (side, side))
    return maps
