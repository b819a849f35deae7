"""Are these the pixels that the encoder was trained on? Its first BatchNorm remembers.

A wrong mean or std fits every file. Yet where a BatchNorm follows the first convolution, it holds the mean and variance
that the training images had there, each after its normalisation. Images of the same kind, normalised by the wrong
numbers, stand out: std .5 in place of ImageNet's divides every variance by five.

Measured on five encoders trained at 32 pixels (ResNet-18 on CIFAR-10 and a small ResNet) with images of CIFAR-10, GTSRB
and Tiny-ImageNet, sharp and blurred: with the right numbers the median channel's variance is .6 to 1.8 times the
remembered one and its mean .04 to .41 deviations off; with .5 and .5 in place of ImageNet's it is at most .3 times,
without any std .09 times, and with a mean of 0 it is .74 to 1.5 deviations off. Encoders without such a BatchNorm
(ViTs, ConvNeXts) remember nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.encoders.pretrained import CLIP, HALF, IMAGENET, Three, normalisation_words
from core.types import Encoder, Images, ImageSet

LOG_VARIANCE = 1.0
"""From here on the natural logarithm of the ratio of variances is taken for a sign of wrong numbers."""
MEANS = 0.6
"""From here on the mean distance of channel means, in remembered deviations, is taken for such a sign."""

SAMPLE = 128
"""Images that are looked at."""

_NONE: tuple[Three, Three] = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_TO_255: tuple[Three, Three] = ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
_USUAL = (IMAGENET, HALF, CLIP, _NONE, _TO_255)


@dataclass(frozen=True)
class Distance:
    """How far images are from those of training: ``log_variance`` is the median over channels of the logarithm of
    their variance in remembered variances, ``means`` the mean over channels of the distance of their mean in remembered
    deviations; ``where`` names the BatchNorm."""

    log_variance: float
    means: float
    where: str

    @property
    def far(self) -> bool:
        """Whether the images do not look like those of training."""
        return abs(self.log_variance) >= LOG_VARIANCE or self.means >= MEANS


class _Reached(Exception):
    """Ends a forward pass at the first BatchNorm."""


@torch.no_grad()
def distance_to_training(encoder: Encoder, images: Images, mean: Three, std: Three) -> Distance | None:
    """Distance of ``images`` ``[B, 3, H, W]`` in [0, 1], normalised by ``mean`` and ``std``; None where the encoder has
    no BatchNorm behind its first convolution, or one that was never trained."""
    shift, scale = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (mean, std))
    reached = _first_batch_norm(encoder.backbone, (images - shift) / scale)
    if reached is None:
        return None
    where, norm, given = reached
    kept_mean, kept_variance = norm.running_mean, norm.running_var
    if kept_mean is None or kept_variance is None or not bool(kept_mean.any()):
        return None
    alive = kept_variance > 1e-3 * kept_variance.median()
    variance, kept = given.var((0, 2, 3))[alive], kept_variance[alive]
    away = (given.mean((0, 2, 3))[alive] - kept_mean[alive]).abs() / kept.sqrt()
    return Distance(float((variance / kept).clamp_min(1e-12).log().median()), float(away.mean()), where)


def why_other_pixels(encoder: Encoder, images: ImageSet) -> tuple[str, ...]:
    """A sentence where some of ``images``, normalised as the encoder does it, do not look like those of its training;
    none where they do, or where nothing tells."""
    own = _three(encoder.mean), _three(encoder.std)
    # Evenly over the set: its names may be sorted by class.
    some = images.batch(torch.arange(0, len(images), max(1, len(images) // SAMPLE))[:SAMPLE], encoder.device)
    distance = distance_to_training(encoder, some, *own)
    if distance is None or not distance.far:
        return ()
    others = {usual: distance_to_training(encoder, some, *usual) for usual in _USUAL}
    near = {usual: found for usual, found in others.items() if found is not None and not found.far}
    best = min(near, key=lambda usual: abs(near[usual].log_variance) + near[usual].means, default=None)
    advice = (
        "Check mean and std; such images would also be very different ones, darker or of other contrast."
        if best is None
        else f"With {normalisation_words(*best)} they would look like them: {_words(near[best])}."
    )
    return (
        f"The images, normalised by {normalisation_words(*own)}, do not look like those that the encoder was trained "
        f"on: {_words(distance)}, at {distance.where}, its first BatchNorm. {advice}",
    )


def _words(distance: Distance) -> str:
    return (
        f"they vary {math.exp(distance.log_variance):.2g} times as much, and their mean is {distance.means:.1f} "
        "deviations off"
    )


def _three(values: Tensor) -> Three:
    first, second, third = (round(float(value), 6) for value in values.flatten())
    return first, second, third


def _first_batch_norm(backbone: nn.Module, pixels: Tensor) -> tuple[str, nn.BatchNorm2d, Tensor] | None:
    """The BatchNorm that directly follows the first convolution, its name, and what it is given."""
    found: list[tuple[str, nn.BatchNorm2d, Tensor]] = []
    convolutions = 0

    def convolved(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        nonlocal convolutions
        convolutions += 1
        if convolutions > 1:
            raise _Reached

    hooks = []
    for name, module in backbone.named_modules():
        if isinstance(module, nn.BatchNorm2d):

            def normed(module: nn.Module, given: tuple[Tensor, ...], name: str = name) -> None:
                assert isinstance(module, nn.BatchNorm2d)
                found.append((name, module, given[0].float()))
                raise _Reached

            hooks.append(module.register_forward_pre_hook(normed))
        elif isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_pre_hook(convolved))
    try:
        backbone(pixels)
    except _Reached:
        pass
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found and convolutions == 1 else None
