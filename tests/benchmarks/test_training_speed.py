"""Self-supervised training against the bare forward and backward pass of the same network over the same views.

What is missing to 1.00 is what views, heads, losses, momentum copies and the optimiser cost; a momentum copy's forward
pass (MoCo, BYOL) is part of the method and counts against it. Bare passes run before and after, and their mean is
taken: a machine's speed drifts. Printed, never asserted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from core.device import mixed_precision, resolve_device
from core.encoders.fresh import fresh_encoder
from core.encoders.stems import training_card
from core.run import QuietRun, Stateful
from core.training.pretrain import pretrain
from core.training.trainers import TRAINERS
from core.types import Encoder, ImageSet

BATCH, STEPS, WARM_UP = 256, 12, 2


class Clock(QuietRun):
    """Seconds of the steps after the first few."""

    seconds = 0.0

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        began = 0.0
        for step in range(total):
            if step == WARM_UP:
                began = now()
            yield step
        self.seconds = now() - began


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def bare_views_per_second(encoder: Encoder) -> float:
    views = torch.rand(2 * BATCH, 3, 32, 32).to(encoder.device, memory_format=torch.channels_last)
    clock = Clock()
    for _ in clock.steps("bare", STEPS):
        with mixed_precision(encoder.device, encoder):
            features = encoder(views)
        encoder.zero_grad(set_to_none=True)
        features.float().square().mean().backward()
    return (STEPS - WARM_UP) * 2 * BATCH / clock.seconds


@pytest.mark.parametrize("key", list(TRAINERS))
def test_views_per_second(key: str) -> None:
    device = resolve_device("auto")
    card = training_card("torchvision/resnet18", 32, stem="fast")
    encoder = fresh_encoder(card, seed=0).to(device, memory_format=torch.channels_last).train()
    pixels = torch.randint(0, 256, (BATCH * STEPS, 3, 32, 32), dtype=torch.uint8)
    images = ImageSet(pixels, tuple(map(str, range(len(pixels)))), "random")
    row, clock = TRAINERS[key], Clock()
    before = bare_views_per_second(encoder)
    pretrain(encoder, images, row.objective, row.config(batch_size=BATCH, epochs=1), clock, seed=0, monitor_times=1)
    bare = (before + bare_views_per_second(encoder)) / 2
    reached = (STEPS - WARM_UP) * 2 * BATCH / clock.seconds
    print(
        f"\n{row.title:8} {reached:7.0f} views/s, bare {bare:7.0f}: {reached / bare:.2f} of bare "
        f"(ResNet-18, {device}, {torch.get_num_threads()} thread(s))"
    )
