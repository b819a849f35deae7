"""Training images for the poison classifier: random candidate patches pasted on random images (Sec. IV-D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from core.device import to_device
from core.images.augment import ColourJitter, jitter_colours, random_flip, random_resized_crop
from core.types import Images

LEAST_CROP = 0.7
"""Smallest part of a patch that is pasted, relative to its side: a window is rarely exactly the trigger."""


@dataclass(frozen=True)
class PatchBox:
    """Patches of several sizes in one tensor: ``pixels`` ``[k, 3, S, S]``, of patch i only the upper left ``sides[i]``
    rows and columns count; ``sides`` ``[k]`` fp32 on the CPU."""

    pixels: Tensor
    sides: Tensor


def box_patches(patches: Sequence[Tensor], device: torch.device) -> PatchBox:
    """``patches`` ``[3, s, s]`` in [0, 1] as one box on ``device``."""
    sides = torch.tensor([float(patch.shape[-1]) for patch in patches])
    largest = int(sides.max())
    padded = [functional.pad(p, (0, largest - p.shape[-1], 0, largest - p.shape[-1])) for p in patches]
    return PatchBox(torch.stack(padded).to(device), sides)


def stamp_random(images: Images, box: PatchBox, zoom: tuple[float, float], random: torch.Generator) -> Images:
    """``images`` ``[B, 3, H, W]`` with a random patch each: a random square part of it, resized by a factor from
    ``zoom``, at a random place. New images; with a factor of 1 the patch's pixels are unchanged."""
    count, _, height, width = images.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=random)

    number = torch.randint(len(box.sides), (count,), generator=random)
    side = box.sides[number]
    part = (side * uniform(LEAST_CROP, 1)).ceil()
    across = ((side - part + 1) * torch.rand(count, 2, generator=random).T).floor()
    pasted = (part * uniform(*zoom)).round().clamp(2, min(height, width))
    place = torch.stack([height - pasted + 1, width - pasted + 1]) * torch.rand(count, 2, generator=random).T
    # For every pixel of the image its place in the patch's own pixels; what falls outside the part is not painted.
    rows, inside_rows = _into_patch(height, place[0].floor(), pasted, part, across[0])
    columns, inside_columns = _into_patch(width, place[1].floor(), pasted, part, across[1])
    grid = torch.stack([columns[:, None, :].expand(-1, height, -1), rows[:, :, None].expand(-1, -1, width)], 3)
    grid = grid * (2 / box.pixels.shape[-1]) - 1
    device = images.device
    painted = functional.grid_sample(
        box.pixels[to_device(number, device)], to_device(grid, device), padding_mode="border", align_corners=False
    )
    inside = to_device(inside_rows[:, :, None] & inside_columns[:, None, :], device)
    return torch.where(inside[:, None], painted, images)


def _into_patch(length: int, start: Tensor, pasted: Tensor, part: Tensor, across: Tensor) -> tuple[Tensor, Tensor]:
    """Along one axis: image pixels to patch pixels ``[B, length]``, and whether they lie in the pasted part."""
    relative = torch.arange(length) + 0.5 - start[:, None]
    return across[:, None] + relative * (part / pasted)[:, None], (relative > 0) & (relative < pasted[:, None])


def training_batch(
    images: Images, box: PatchBox, zoom: tuple[float, float], crop: float, random: torch.Generator
) -> tuple[Images, Tensor]:
    """Strongly augmented views ``[2 B, 3, H, W]`` of ``images`` ``[B, 3, H, W]`` and whether each is stamped, ``[2 B]``
    fp32: every image once with a patch and once without, so that only the patch tells the classes apart."""
    views = random_resized_crop(random_flip(images, random), random, scale=(crop, 1.0))
    both = torch.cat([stamp_random(views, box, zoom, random), views])
    stamped = to_device(torch.cat([torch.ones(len(images)), torch.zeros(len(images))]), images.device)
    return jitter_colours(both, random, ColourJitter()), stamped
