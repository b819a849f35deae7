"""How much of the time goes into the encoder: each detection stage against bare forward and backward passes.

A search step cannot be faster than the encoder's passes over the same images, so the ratio is what our own code costs.
Both are measured in the same run, one after the other; the numbers are printed and nothing is asserted about them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pytest
import torch
from torchvision.models import resnet18

from core.catalog import DETECTION, KINDS, read_parameters
from core.device import resolve_device
from core.methods import Detect, Method
from core.run import Stateful
from core.types import Encoder, ImageSet
from tests.planted import SIZE, planted_images

STEPS = 6
WARM_UP = 1
IMAGES = 128


class Stopwatch:
    """Seconds per step of each stage, the first steps left out."""

    def __init__(self, device: torch.device) -> None:
        self.per_step: dict[str, float] = {}
        self._device = device

    def plan(self, stages: Mapping[str, float]) -> None:
        pass

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        began = time.perf_counter()
        for step in range(total):
            if step == min(WARM_UP, total - 1):
                began = self._now()
            yield step
        self.per_step[name] = (self._now() - began) / max(1, total - WARM_UP)

    def log(self, **scalars: float) -> None:
        pass

    def _now(self) -> float:
        if self._device.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(0)
    backbone = resnet18(weights=None)
    backbone.fc = torch.nn.Identity()
    made = Encoder(
        backbone, name="resnet18", image_size=(SIZE, SIZE), feature_dim=512, mean=(0.5,) * 3, std=(0.25,) * 3
    )
    return made.requires_grad_(False).eval().to(resolve_device("auto"), memory_format=torch.channels_last)


def bare_images_per_second(encoder: Encoder, images: ImageSet, batch: int) -> float:
    """Forward and backward to the pixels, as every gradient search needs, and nothing else."""
    clock = Stopwatch(encoder.device)
    pixels = images.batch(torch.arange(batch) % len(images), encoder.device).requires_grad_(True)
    for _ in clock.steps("bare", STEPS):
        torch.autograd.grad(encoder(pixels).square().mean(), pixels)
    return batch / clock.per_step["bare"]


@pytest.mark.parametrize("method", DETECTION, ids=lambda method: method.key)
def test_images_per_second(method: Method[Detect], encoder: Encoder) -> None:
    images = planted_images(IMAGES)
    steps = {name: STEPS for name in method.config.model_fields if name.endswith("steps")}
    values = {"detection": {"method": method.key, **steps}}
    config = read_parameters(KINDS["detect"], values).chosen["detection"].config
    batch = getattr(config, "batch_size", 64) * len(getattr(config, "thresholds", [None]))
    bare = bare_images_per_second(encoder, images, batch)
    clock = Stopwatch(encoder.device)
    method.apply(encoder, images, config, clock, seed=0)
    assert clock.per_step
    print(f"\n{method.key} on {encoder.device}, {torch.get_num_threads()} thread(s): bare {bare:.0f} images/s")
    for stage, seconds in clock.per_step.items():
        print(f"  {stage:45} {batch / seconds:8.0f} images/s   {batch / seconds / bare:5.2f} of bare")
