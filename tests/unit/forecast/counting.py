"""Encoders of any size whose passes are counted, and images for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from core.passes import Passes, Workload
from core.run import Stateful
from core.types import Encoder, ImageSet


class CountedRun:
    """Counts the images of each stage; what comes after a stage, up to the next, is counted with it."""

    def __init__(self) -> None:
        self.stages: dict[str, Passes] = {}
        self.before = Passes()
        self._now: str | None = None

    def count(self, encoder: nn.Module, pixels: Tensor) -> None:
        """A pass trains if a weight learns, and goes back if only the pixels do."""
        learns = torch.is_grad_enabled() and any(weight.requires_grad for weight in encoder.parameters())
        seen = float(len(pixels))
        if learns:
            passes = Passes(training=seen)
        elif torch.is_grad_enabled() and pixels.requires_grad:
            passes = Passes(backward=seen)
        else:
            passes = Passes(forward=seen)
        if self._now is None:
            self.before = self.before + passes
        else:
            self.stages[self._now] = self.stages.get(self._now, Passes()) + passes

    def plan(self, stages: Mapping[str, float]) -> None:
        pass

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        self._now = name
        self.stages.setdefault(name, Passes())
        yield from range(total)

    def log(self, **scalars: float) -> None:
        pass


def counted_encoder(side: int, run: CountedRun) -> Encoder:
    """A small convolutional network for images of ``side`` pixels; copies of it count as well."""
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=4, padding=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
    )  # fmt: skip
    encoder = Encoder(
        backbone,
        name="counted",
        image_size=(side, side),
        feature_dim=32,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    hook: Callable[[nn.Module, tuple[Tensor, ...]], None] = lambda module, given: run.count(module, given[0])  # noqa: E731
    encoder.register_forward_pre_hook(hook)
    return encoder.eval()


def noise_images(count: int, side: int) -> ImageSet:
    """``count`` images of coarse noise."""
    random = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 8, 8, generator=random)
    pixels = (nn.functional.interpolate(coarse, size=(side, side)) * 255).to(torch.uint8)
    return ImageSet(
        pixels, tuple(f"{i}.png" for i in range(count)), hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
    )


def load_of(images: ImageSet) -> Workload:
    count, _, height, width = images.pixels.shape
    return Workload(count, height, width)
