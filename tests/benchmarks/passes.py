"""Counting the images that pass an encoder, and what the same passes cost by themselves in the same run."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from core.device import mixed_precision
from core.run import Stateful
from core.types import Encoder
from tests.planted import SIZE

BATCHES = (48, 256)


@dataclass
class Passes:
    """Images that went through an encoder: with a backward pass to follow, and without."""

    learning: int = 0
    looking: int = 0

    def count(self, given: Tensor) -> None:
        if torch.is_grad_enabled():
            self.learning += len(given)
        else:
            self.looking += len(given)


class Stopwatch:
    """Seconds and passes of each stage."""

    def __init__(self, passes: Passes) -> None:
        self.stages: dict[str, tuple[float, Passes]] = {}
        self._passes = passes

    def plan(self, stages: Mapping[str, float]) -> None:
        pass

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        began, before = now(), copy.copy(self._passes)
        try:
            yield from range(total)
        finally:  # a search may stop before its last step
            spent = Passes(self._passes.learning - before.learning, self._passes.looking - before.looking)
            self.stages[name] = (now() - began, spent)

    def log(self, **scalars: float) -> None:
        pass


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_per_image(encoder: Encoder, batch: int, *, learning: bool, half: bool = True) -> float:
    """One bare forward pass and, where ``learning``, the backward pass to the pixels and to weights that learn."""
    pixels = torch.rand(batch, 3, SIZE, SIZE).to(encoder.device, memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(6):
        began = now()
        with torch.set_grad_enabled(learning), mixed_precision(encoder.device, encoder, enabled=half):
            features = encoder(pixels.requires_grad_(learning))
            if learning:
                inputs = [pixels, *(weight for weight in encoder.parameters() if weight.requires_grad)]
                torch.autograd.grad(features.float().square().mean(), inputs)
        best = min(best, now() - began)
    return best / batch


def report(title: str, encoder: Encoder, clock: Stopwatch) -> None:
    bare = {
        learning: min(seconds_per_image(encoder, b, learning=learning) for b in BATCHES) for learning in (True, False)
    }
    print(f"\n{title} on {encoder.device}, {torch.get_num_threads()} thread(s):", end="")
    print(f" bare {1 / bare[False]:.0f} images/s forward, {1 / bare[True]:.0f} with backward")
    for stage, (seconds, passes) in clock.stages.items():
        least = passes.learning * bare[True] + passes.looking * bare[False]
        images = passes.learning + passes.looking
        print(f"  {stage:45} {images / seconds:8.0f} images/s   {least / seconds:5.2f} of the bare passes' speed")


def counted(encoder: Encoder) -> tuple[Encoder, Stopwatch]:
    passes = Passes()
    subject = copy.deepcopy(encoder)
    # A plain function: copies of the encoder (students, teachers) keep pointing to the same counter.
    subject.register_forward_pre_hook(lambda module, given: passes.count(given[0]))
    return subject, Stopwatch(passes)
