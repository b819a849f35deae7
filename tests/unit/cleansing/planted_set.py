"""A poisoned set and an encoder that obeys its patch, both written by hand: the truth is known exactly.

The encoder reads an image's colours in four quarters, and has an alarm: a template the size of the patch, that is
silent on everything but the patch, wherever it is, and then adds a direction of its own to the feature. Images with
the patch so form clusters of their own, as an encoder pre-trained on a poisoned set makes them do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.random import generator
from core.types import Encoder, Features, Images, ImageSet

SIZE = 32
CLASSES = 6
SIDE = 6
MARGIN = 4


@dataclass(frozen=True)
class PlantedSet:
    """``poisoned`` maps the indices of poisoned images to the patch's top and left."""

    images: ImageSet
    encoder: Encoder
    poisoned: dict[int, tuple[int, int]]


class _Colours(nn.Module):
    """Colours of the four quarters, and one alarm per template ``[P, 3, side, side]`` (in normalised units)."""

    def __init__(self, templates: Tensor) -> None:
        super().__init__()
        count, _, side, _ = templates.shape
        self.detector = nn.Conv2d(3, count, side)
        flat = templates.flatten(1)
        centred = flat - flat.mean(1, keepdim=True)
        weight = centred / centred.square().sum(1, keepdim=True)
        with torch.no_grad():
            self.detector.weight.copy_(weight.view_as(templates))
            # The response to the patch itself is 1 whatever the brightness around; natural windows stay far below.
            self.detector.bias.fill_(-0.6)

    def forward(self, images: Tensor) -> Tensor:
        colours = functional.adaptive_avg_pool2d(images, 2).flatten(1)
        alarm = self.detector(images).relu().amax((2, 3))
        return torch.cat([colours, 20 * alarm], 1)


def patch(seed: int = 0, side: int = SIDE) -> Tensor:
    """A patch of random blocks of two pixels, ``[3, side, side]`` uint8."""
    blocks = torch.randint(0, 256, (3, -(-side // 2), -(-side // 2)), generator=generator(seed, "patch"))
    return blocks.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :side, :side].to(torch.uint8)


def encoder(patches: list[Tensor]) -> Encoder:
    """An encoder that obeys ``patches``; a clean one obeys a patch that nobody ever saw."""
    templates = torch.stack(patches or [patch(99)]).float() / 255
    return Encoder(
        _Colours((templates - 0.5) / 0.25),
        name="planted",
        image_size=(SIZE, SIZE),
        feature_dim=12 + len(templates),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    ).eval()


def planted_set(count: int = 480, *, triggers: int = 1, rate: float = 0.5, side: int = SIDE) -> PlantedSet:
    """``count`` images of six colours; a share ``rate`` of the first ``triggers`` colours carries a patch each."""
    pixels = torch.stack([_draw(i) for i in range(count)])
    patches = [patch(t, side) for t in range(triggers)]
    random = generator(0, "poison")
    poisoned = {}
    for i in range(count):
        if i % CLASSES < triggers and float(torch.rand(1, generator=random)) < rate:
            top, left = torch.randint(MARGIN, SIZE - side - MARGIN, (2,), generator=random).tolist()
            pixels[i, :, top : top + side, left : left + side] = patches[i % CLASSES]
            poisoned[i] = (top, left)
    images = ImageSet(pixels, tuple(f"{i:04}.png" for i in range(count)), "00" * 32)
    return PlantedSet(images, encoder(patches), poisoned)


def covered(planted: PlantedSet, index: int, top: int, left: int, window: int, side: int = SIDE) -> float:
    """The share of the patch of image ``index`` that lies in a window; 0 for a clean image."""
    if index not in planted.poisoned:
        return 0.0
    at = planted.poisoned[index]
    high = min(at[0] + side, top + window) - max(at[0], top)
    wide = min(at[1] + side, left + window) - max(at[1], left)
    return max(0, high) * max(0, wide) / side**2


def features(planted: PlantedSet) -> Features:
    """Unit features of all images."""
    with torch.no_grad():
        return functional.normalize(planted.encoder(planted.images.batch(slice(None))), dim=1)


def _draw(index: int) -> Tensor:
    """Image ``index`` ``[3, 32, 32]`` uint8: its class' colour, shades, grain."""
    random = generator(1, "planted set", index)
    colour = torch.tensor([0.3, 0.5, 0.7])[torch.randperm(3, generator=generator(2, "colour", index % CLASSES))]
    shades = torch.rand(1, 3, 4, 4, generator=random) - 0.5
    shades = functional.interpolate(shades, size=(SIZE, SIZE), mode="bicubic")[0]
    image: Images = colour.view(3, 1, 1) + 0.25 * shades + 0.03 * torch.randn(3, SIZE, SIZE, generator=random)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)
