"""The report's pictures: the recovered trigger, where it acts, and what it does to images."""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from core.triggers import AdditiveTrigger, MaskedTrigger
from core.types import Images, ImageSet

SIDE = 256
"""Shortest side of an enlarged picture, in pixels; small encoders see 32 x 32, which nobody can judge by eye."""
SAMPLES = 8
GAP = 4
LARGEST_GAIN = 10


@dataclass(frozen=True)
class Picture:
    """A PNG and what it shows, in words for those who cannot see it."""

    name: str
    png: bytes
    alt: str


def trigger_pictures(trigger: MaskedTrigger | AdditiveTrigger, images: ImageSet) -> tuple[Picture, ...]:
    """``trigger.png``, ``mask.png`` and ``triggered_samples.png`` of one recovered trigger."""
    return (_pattern(trigger), _where(trigger), _samples(trigger, images))


def _pattern(trigger: MaskedTrigger | AdditiveTrigger) -> Picture:
    if isinstance(trigger, MaskedTrigger):
        mask = trigger.mask.float().cpu()
        shown = mask * trigger.pattern.float().cpu() + (1 - mask) * 0.5
        alt = f"Recovered trigger pattern on grey; it covers {trigger.area():.1%} of the image."
    else:
        delta = trigger.delta.float().cpu()
        largest = float(delta.abs().max())
        shown = 0.5 + delta / (2 * largest) if largest > 0 else torch.full_like(delta, 0.5)
        alt = f"Recovered additive pattern around grey, stretched; its largest change is {largest * 255:.1f} of 255."
    return Picture("trigger.png", encoded(_enlarged(shown)), alt)


def _where(trigger: MaskedTrigger | AdditiveTrigger) -> Picture:
    if isinstance(trigger, MaskedTrigger):
        strength, alt = trigger.mask.float().cpu(), "Mask of the trigger: white where the pattern replaces the image."
    else:
        change = trigger.delta.float().cpu().abs().amax(0, keepdim=True)
        strength = change / change.max().clamp_min(1e-12)
        alt = "Strength of the additive pattern: white where it changes the image most."
    return Picture("mask.png", encoded(_enlarged(strength.expand(3, -1, -1))), alt)


def _samples(trigger: MaskedTrigger | AdditiveTrigger, images: ImageSet) -> Picture:
    count = min(SAMPLES, len(images))
    clean = images.batch(torch.linspace(0, len(images) - 1, count).long())
    triggered = trigger(clean).detach().float().cpu().clamp(0, 1)
    difference = (triggered - clean).abs()
    gain = max(1, min(LARGEST_GAIN, int(1 / max(float(difference.max()), 1e-6))))
    sheet = torch.cat([_row(clean), _row(triggered), _row((difference * gain).clamp(0, 1))], dim=1)
    alt = (
        f"{count} images in three rows: clean, with the recovered trigger, and their absolute difference"
        f"{f' enlarged {gain} times' if gain > 1 else ''}."
    )
    return Picture("triggered_samples.png", encoded(sheet), alt)


def _row(images: Images) -> Tensor:
    """Images side by side, ``[3, H, W]``, with white gaps."""
    factor = max(1, round(96 / min(images.shape[-2:])))
    cells = [torch.nn.functional.pad(magnified(image, factor), (0, GAP, 0, GAP), value=1.0) for image in images]
    return torch.cat(cells, dim=2)


def _enlarged(image: Tensor) -> Tensor:
    return magnified(image, max(1, -(-SIDE // min(image.shape[-2:]))))


def magnified(image: Tensor, factor: int) -> Tensor:
    """Nearest neighbour, by a whole number, so that a pixel stays a square."""
    return image.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def encoded(image: Tensor) -> bytes:
    """``image`` ``[3, H, W]`` in [0, 1] as a PNG."""
    pixels = image.detach().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels, mode="RGB").save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
