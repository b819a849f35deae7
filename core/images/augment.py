"""Random views of images as batched tensor operations: no per-image Python, every number from a given generator.

All functions take images ``[B, 3, H, W]`` in [0, 1] and return new ones of the same shape and range; the numbers are
drawn on the CPU, so that a seed means the same views on every device.

Deviations from torchvision's transforms: brightness, contrast, saturation and hue act in this fixed order with one
clamp at the end, and hue turns the chroma plane of YIQ instead of HSV's circle. All four are then one 3x3 matrix and an
offset per image, which costs a hundredth of the per-image route.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from core.device import to_device, to_like
from core.types import Images

_LUMA = (0.299, 0.587, 0.114)
_RGB_TO_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@dataclass(frozen=True)
class ColourJitter:
    """How far colours move: torchvision's ``ColorJitter`` units, with the probabilities of jitter and of greyscale."""

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    probability: float = 0.8
    grey_probability: float = 0.2


def random_flip(images: Images, generator: torch.Generator, probability: float = 0.5) -> Images:
    """Mirror each image left to right with ``probability``."""
    flipped = torch.rand(len(images), generator=generator) < probability
    return torch.where(to_device(flipped, images.device).view(-1, 1, 1, 1), images.flip(3), images)


def random_resized_crop(
    images: Images,
    generator: torch.Generator,
    *,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Images:
    """A random box per image, of ``scale`` times its area and aspect ``ratio``, resized bilinearly to the full size.

    A box that would be wider or higher than the image is cut to it.
    """
    count = len(images)
    area = torch.empty(count).uniform_(*scale, generator=generator)
    aspect = torch.empty(count).uniform_(math.log(ratio[0]), math.log(ratio[1]), generator=generator).exp()
    width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    # Centres in grid_sample's coordinates, where the image spans [-1, 1] and a box of relative width w reaches +-w.
    x = (2 * torch.rand(count, generator=generator) - 1) * (1 - width)
    y = (2 * torch.rand(count, generator=generator) - 1) * (1 - height)
    zero = torch.zeros(count)
    boxes = torch.stack([torch.stack([width, zero, x], 1), torch.stack([zero, height, y], 1)], 1)
    grid = functional.affine_grid(to_device(boxes, images.device), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)


def jitter_colours(images: Images, generator: torch.Generator, jitter: ColourJitter) -> Images:
    """Random brightness, contrast, saturation and hue, and sometimes greyscale, drawn for each image on its own."""
    matrix, contrast = _colour_change(len(images), generator, jitter)
    matrix, contrast = to_like(matrix, images), to_like(contrast, images)
    flat = images.flatten(2)
    coloured = torch.baddbmm((1 - contrast) * _mean_grey(images, contrast), matrix * contrast, flat)
    return coloured.clamp(0, 1).view_as(images)


def gaussian_blur(
    images: Images,
    generator: torch.Generator,
    probability: float,
    *,
    sigma: tuple[float, float] = (0.1, 2.0),
    radius: int | None = None,
) -> Images:
    """Blur each image with ``probability``, its own width drawn from ``sigma`` (pixels).

    ``radius`` in pixels defaults to a twentieth of the side, SimCLR's kernel of a tenth.
    """
    count, channels, height, width = images.shape
    radius = max(1, round(min(height, width) / 20)) if radius is None else radius
    blurred = torch.rand(count, generator=generator) < probability
    widths = torch.empty(count).uniform_(*sigma, generator=generator)
    position = torch.arange(-radius, radius + 1)
    kernels = torch.exp(-position.square() / (2 * widths[:, None].square()))
    kernels = to_like((kernels / kernels.sum(1, keepdim=True)).repeat_interleave(channels, 0), images)
    # Every image has a kernel of its own: images and channels become groups of one convolution, rows then columns.
    flat = functional.pad(images.reshape(1, count * channels, height, width), [radius] * 4, mode="reflect")
    rows = functional.conv2d(flat, kernels[:, None, None, :], groups=count * channels)
    both = functional.conv2d(rows, kernels[:, None, :, None], groups=count * channels)
    return torch.where(to_device(blurred, images.device).view(-1, 1, 1, 1), both.view_as(images), images)


def solarise(images: Images, generator: torch.Generator, probability: float, threshold: float = 0.5) -> Images:
    """With ``probability``, invert an image's pixels that are at least ``threshold`` bright."""
    drawn = torch.rand(len(images), generator=generator) < probability
    chosen = to_device(drawn, images.device).view(-1, 1, 1, 1)
    return torch.where(chosen & (images >= threshold), 1 - images, images)


def _mean_grey(images: Images, like: Tensor) -> Tensor:
    """The mean luma of each image, ``[B, 1, 1]``: what a loss of contrast fades to."""
    luma = to_like(torch.tensor(_LUMA), images)
    return (images.mean((2, 3)) @ luma).view(like.shape)


def _colour_change(count: int, generator: torch.Generator, jitter: ColourJitter) -> tuple[Tensor, Tensor]:
    """Per image the 3x3 matrix of brightness, saturation, hue and greyscale, and its contrast ``[B, 1, 1]``."""

    def factor(strength: float) -> Tensor:
        applied = torch.empty(count).uniform_(max(0.0, 1 - strength), 1 + strength, generator=generator)
        return torch.where(jittered, applied, torch.ones(count)).view(-1, 1, 1)

    jittered = torch.rand(count, generator=generator) < jitter.probability
    brightness, contrast, saturation = factor(jitter.brightness), factor(jitter.contrast), factor(jitter.saturation)
    turn = 2 * math.pi * torch.empty(count).uniform_(-jitter.hue, jitter.hue, generator=generator)
    turn = torch.where(jittered, turn, torch.zeros(count))
    grey = torch.rand(count, generator=generator) < jitter.grey_probability

    to_yiq = torch.tensor(_RGB_TO_YIQ)
    rotation = torch.zeros(count, 3, 3)
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1] = rotation[:, 2, 2] = turn.cos()
    rotation[:, 1, 2], rotation[:, 2, 1] = -turn.sin(), turn.sin()
    hue = torch.linalg.inv(to_yiq) @ rotation @ to_yiq

    to_grey = torch.tensor([_LUMA] * 3)
    saturate = saturation * torch.eye(3) + (1 - saturation) * to_grey
    matrix = hue @ saturate * brightness
    return torch.where(grey.view(-1, 1, 1), to_grey @ matrix, matrix), contrast
