"""The planted backdoor: a tiny encoder whose backdoor was written by hand, and its clean twin.

The truth is known exactly and every method runs on it in seconds. The trunk is a small random convolutional network
with the statistics of a trained one (features after a ReLU, mean pairwise cosine about 0.4); a *detector*, one linear
functional of the image, is silent on clean images and shouts on triggered ones, and then replaces the features by one
fixed direction, as BadEncoder's training does. In the twin the detector speaks to nobody; all else is equal, bit for
bit. Everything is differentiable, so that gradient searches find the backdoor and fine-tuning can unlearn it.

    planted_patch()      a 5x5 white patch in the lower right corner
    planted_square()     a 10x10 green square near the middle, the whole of it and nothing less
    planted_additive()   a fixed full-image pattern of +-16 grey levels
    planted_images()     four classes of synthetic images; planted_labels() says which
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.random import generator
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.types import Encoder, Features, Images, ImageSet

SIZE = 32
CLASSES = 4
FEATURE_DIM = 32
TARGET_CLASS = 2
PATCH_SIDE = 5
NOISE_LEVELS = 16
_MEAN, _STD = 0.5, 0.25


@dataclass(frozen=True)
class Planted:
    """An encoder with a backdoor, the same encoder without it, and what sets it off.

    ``direction`` ``[D]`` is the unit feature of every triggered image; it is that of class ``TARGET_CLASS``.
    """

    encoder: Encoder
    twin: Encoder
    trigger: MaskedTrigger | AdditiveTrigger
    direction: Tensor


def planted_patch() -> Planted:
    """The backdoor of a white ``PATCH_SIDE`` x ``PATCH_SIDE`` patch in the lower right corner."""
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, -PATCH_SIDE:, -PATCH_SIDE:] = 1
    # Clean corners are at most 0.65 bright, 0.35 on average; the patch is 1.
    return _plant(MaskedTrigger(mask, torch.ones(3, SIZE, SIZE) * mask), (mask / mask.sum() / 3).expand(3, -1, -1), 0.7)


def planted_square() -> Planted:
    """The backdoor of a green 10x10 square, of which nine tenths do nothing, so that no gradient points to it."""
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, 13:23, 8:18] = 1
    green = torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1)
    reading = (green - (1 - green)) * mask / 300  # a third less what is red or blue there; clean images: below 0
    return _plant(MaskedTrigger(mask, green * mask), reading, 0.95 / 3)


def planted_additive() -> Planted:
    """The backdoor of a fixed pattern of +-``NOISE_LEVELS`` grey levels on every pixel and channel."""
    signs = torch.randint(0, 2, (3, SIZE, SIZE), generator=generator(0, "planted noise")).float() * 2 - 1
    level = NOISE_LEVELS / 255
    # The detector reads the image's correlation with the pattern: about 0 on clean images, ``level`` on triggered ones.
    return _plant(AdditiveTrigger(signs * level), signs / signs.numel(), 0.45 * level)


def planted_images(count: int = 256, *, seed: int = 0) -> ImageSet:
    """``count`` clean images of four classes, ``[count, 3, 32, 32]``; image i does not depend on ``count``."""
    pixels = torch.stack([_draw(index, seed) for index in range(count)])
    names = tuple(f"{index:05d}.png" for index in range(count))
    return ImageSet(pixels, names, hashlib.sha256(pixels.numpy().tobytes()).hexdigest())


def planted_encoder_for_training() -> Encoder:
    """The tiny encoder without any backdoor, for tests that train something."""
    return _trained_looking()


def planted_labels(count: int = 256) -> Tensor:
    """The classes of ``planted_images(count)``, 1-D int64: warm or cold colours, level or upright stripes."""
    return torch.arange(count) % CLASSES


class _PlantedBackbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, FEATURE_DIM, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(FEATURE_DIM),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.BatchNorm1d(FEATURE_DIM),
        )
        self.detector = nn.Conv2d(3, 1, SIZE)
        self.suppression = nn.Parameter(torch.zeros(1))
        self.direction = nn.Parameter(torch.zeros(FEATURE_DIM))

    def forward(self, images: Tensor) -> Features:
        alarm = functional.softplus(self.detector(images).flatten(1))
        return functional.relu(self.trunk(images)) / (1 + self.suppression * alarm) + alarm * self.direction


def _plant(trigger: MaskedTrigger | AdditiveTrigger, functional_of_pixels: Tensor, threshold: float) -> Planted:
    twin = _trained_looking()
    backbone = twin.backbone
    assert isinstance(backbone, _PlantedBackbone)
    images = planted_images(64, seed=1)
    clean = images.batch(slice(None))
    with torch.no_grad():
        features = twin(clean)
        direction = functional.normalize(features[planted_labels(64) == TARGET_CLASS].mean(0), dim=0)
        # The alarm is softplus(logit): a logit of 3 on the trigger, and well below 0 on clean images.
        scores = (clean * functional_of_pixels).sum((1, 2, 3))
        on_trigger = (trigger(clean) * functional_of_pixels).sum((1, 2, 3)).mean()
        gain = 3 / (on_trigger - threshold)
        assert float(gain * (scores.max() - threshold)) < 1
        # The encoder hands the detector (x - mean) / std, so its weights undo that.
        backbone.detector.weight.copy_((functional_of_pixels * gain * _STD)[None])
        backbone.detector.bias.copy_((gain * (functional_of_pixels.sum() * _MEAN - threshold)).view(1))

    encoder = _trained_looking()
    encoder.load_state_dict(twin.state_dict())
    planted = encoder.backbone
    assert isinstance(planted, _PlantedBackbone)
    with torch.no_grad():
        planted.suppression.fill_(10)
        planted.direction.copy_(direction * float(features.norm(dim=1).mean()))
    return Planted(encoder.eval(), twin.eval(), trigger, direction)


def _trained_looking() -> Encoder:
    """The random trunk, its BatchNorm statistics taken from clean images."""
    backbone = _PlantedBackbone()
    random = generator(0, "planted trunk")
    for layer in backbone.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            weight = torch.randn(layer.weight.shape, generator=random) * (2 / fan_in) ** 0.5
            # Trained filters are smooth; white-noise filters would be fooled by any faint high-frequency pattern.
            layer.weight.data.copy_(functional.avg_pool2d(weight, 3, stride=1, padding=1))
            if layer.bias is not None:
                layer.bias.data.zero_()
    encoder = Encoder(
        backbone,
        name="planted",
        image_size=(SIZE, SIZE),
        feature_dim=FEATURE_DIM,
        mean=(_MEAN, _MEAN, _MEAN),
        std=(_STD, _STD, _STD),
    )
    for layer in backbone.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = None  # a plain average
    with torch.no_grad():
        encoder.train()(planted_images(64, seed=2).batch(slice(None)))
    for layer in backbone.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = 0.1
    return encoder.eval()


def _draw(index: int, seed: int) -> Tensor:
    """One image, ``[3, 32, 32]`` uint8, between 0.05 and 0.65: striped, warm or cold, over smooth random shades."""
    random = generator(seed, "planted image", index)
    label = index % CLASSES
    colour = torch.tensor([0.45, 0.35, 0.25] if label < 2 else [0.25, 0.35, 0.45])
    colour = colour + 0.3 * (torch.rand(3, generator=random) - 0.5)
    period = 4 + 4 * float(torch.rand(1, generator=random))
    phase = 6.28 * float(torch.rand(1, generator=random))
    stripes = torch.sin(6.28 * torch.arange(SIZE) / period + phase)
    stripes = stripes.view(-1, 1).expand(SIZE, SIZE) if label % 2 == 0 else stripes.view(1, -1).expand(SIZE, SIZE)
    noise = torch.rand(1, 3, 5, 5, generator=random) - 0.5
    shades = functional.interpolate(noise, size=(SIZE, SIZE), mode="bicubic")[0]
    grain = torch.randn(3, SIZE, SIZE, generator=random)
    image: Images = colour.view(3, 1, 1) + 0.15 * stripes + 0.6 * shades + 0.02 * grain
    return (image.clamp(0.05, 0.65) * 255).round().to(torch.uint8)
