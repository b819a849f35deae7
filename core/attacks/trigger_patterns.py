"""The triggers of the published attacks, as constructors: sizes in pixels, strengths in grey levels of 255.

Spectral triggers are additive here and exactly so: CTRL adds to coefficients of a linear transform, so the change in
RGB is the same for every image (before clipping).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from core.random import generator
from core.triggers import AdditiveTrigger, BlendedTrigger, MaskedTrigger

_CTRL_BLOCK = 32
_CTRL_FREQUENCIES = (15, 31)
_YUV_TO_RGB = ((1.0, 0.0, 1.13983), (1.0, -0.39465, -0.58060), (1.0, 2.03211, 0.0))


def patch(pattern: Tensor, image_size: tuple[int, int], top: int, left: int) -> MaskedTrigger:
    """``pattern`` ``[3, h, w]`` in [0, 1], pasted opaquely with its upper left corner at (``top``, ``left``).

    Raises:
        ValueError: the patch does not lie inside the image.
    """
    height, width = image_size
    rows, columns = pattern.shape[1:]
    if top < 0 or left < 0 or top + rows > height or left + columns > width:
        raise ValueError(f"a {rows}x{columns} patch at ({top}, {left}) does not fit into {height}x{width} pixels")
    mask, canvas = torch.zeros(1, height, width), torch.zeros(3, height, width)
    mask[:, top : top + rows, left : left + columns] = 1
    canvas[:, top : top + rows, left : left + columns] = pattern
    return MaskedTrigger(mask, canvas)


def white_patch(image_size: tuple[int, int], side: int, top: int, left: int) -> MaskedTrigger:
    """A white square. BadEncoder's is 10x10 at (21, 21) of 32x32, and 50x50 at (173, 173) of 224x224."""
    return patch(torch.ones(3, side, side), image_size, top, left)


def random_colour_patch(
    image_size: tuple[int, int], side: int, top: int, left: int, *, seed: int, cells: int = 4
) -> MaskedTrigger:
    """HTBA's and SSL-Backdoor's trigger: ``cells`` x ``cells`` random colours, enlarged bilinearly to ``side`` pixels.

    Rounded to grey levels, as the attacker's PNG would be.
    """
    colours = torch.rand(1, 3, cells, cells, generator=generator(seed, "random colour patch"))
    pattern = functional.interpolate(colours, size=(side, side), mode="bilinear", align_corners=False)[0]
    return patch((pattern * 255).round() / 255, image_size, top, left)


def noise_patch(image_size: tuple[int, int], side: int, top: int, left: int, *, seed: int) -> MaskedTrigger:
    """A square of uniformly random grey levels, drawn anew for every pixel and channel.

    The patch of SSLDefender's "random noise" triggers, which are not defined there; this reading is ours.
    """
    levels = torch.randint(0, 256, (3, side, side), generator=generator(seed, "noise patch"))
    return patch(levels / 255, image_size, top, left)


def spectral(image_size: tuple[int, int], magnitude: float = 100.0) -> AdditiveTrigger:
    """CTRL: ``magnitude`` added to the DCT coefficients (15, 15) and (31, 31) of U and V of each 32x32 block.

    On [0, 255] images and with an orthonormal transform; the code uses 100, its README 50. Blocks that the image cuts
    off at the right and lower edge are cut.
    """
    position = torch.arange(_CTRL_BLOCK, dtype=torch.float64)
    block = torch.zeros(_CTRL_BLOCK, _CTRL_BLOCK, dtype=torch.float64)
    for k in _CTRL_FREQUENCIES:
        wave = math.sqrt(2 / _CTRL_BLOCK) * torch.cos(math.pi * (2 * position + 1) * k / (2 * _CTRL_BLOCK))
        block += magnitude * torch.outer(wave, wave)
    height, width = image_size
    tiles = (math.ceil(height / _CTRL_BLOCK), math.ceil(width / _CTRL_BLOCK))
    chroma = block.repeat(tiles)[:height, :width] / 255
    yuv = torch.stack([torch.zeros_like(chroma), chroma, chroma])
    rgb = torch.einsum("ij,jhw->ihw", torch.tensor(_YUV_TO_RGB, dtype=torch.float64), yuv)
    return AdditiveTrigger(rgb.float())


def full_image_noise(image_size: tuple[int, int], grey_levels: float, *, seed: int) -> AdditiveTrigger:
    """A fixed pattern of +-``grey_levels`` on every channel of every pixel.

    SSLDefender's "random noise" trigger is not defined there; this reading, with 8 and 16 levels, is ours.
    """
    signs = torch.randint(0, 2, (3, *image_size), generator=generator(seed, "full-image noise")) * 2 - 1
    return AdditiveTrigger(signs.float() * grey_levels / 255)


def blended_noise(image_size: tuple[int, int], alpha: float, *, seed: int) -> BlendedTrigger:
    """Uniform random colours blended into the whole image with weight ``alpha``."""
    pattern = torch.rand(3, *image_size, generator=generator(seed, "blended noise"))
    return BlendedTrigger(alpha, (pattern * 255).round() / 255)
