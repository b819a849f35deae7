"""A ResNet-18 for 32-pixel images with its last layers as matrix products, against the same with plain convolutions."""

from __future__ import annotations

import time

import torch
from torch import nn

from core.device import mixed_precision, resolve_device
from core.encoders.fresh import fresh_encoder
from core.encoders.small_maps import SmallMapConvolution
from core.encoders.stems import training_card

BATCH, REPEATS = 256, 4


def images_per_second(network: nn.Module, images: torch.Tensor) -> float:
    """Forward and backward; the best of a few."""
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter()
        with mixed_precision(images.device):
            features = network(images)
        features.float().square().mean().backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return len(images) / best


def test_images_per_second(monkeypatch) -> None:
    device = resolve_device("auto")
    encoder = fresh_encoder(training_card("torchvision/resnet18", 32, stem="fast"), seed=0).train()
    encoder = encoder.to(device, memory_format=torch.channels_last)
    images = torch.rand(BATCH, 3, 32, 32).to(device, memory_format=torch.channels_last)
    short = images_per_second(encoder, images)
    monkeypatch.setattr(SmallMapConvolution, "forward", nn.Conv2d.forward)
    plain = images_per_second(encoder, images)
    print(f"\nsmall maps on {device}: {short:.0f} images/s, as convolutions {plain:.0f}: {short / plain:.2f} times")
