"""Counting the images that pass an encoder, and what the same passes cost by themselves in the same run.

Bare passes are timed before and after every stage, outside of its time, and their median is taken: a machine's speed
drifts, and a stage's seconds are a mean. Of the batch sizes the fastest one counts.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from core.device import mixed_precision
from core.run import Stateful
from core.types import Encoder
from tests.planted import SIZE

BATCHES = (48, 256, 512)


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
    """Seconds and passes of each stage, and seconds of the bare passes of ``encoder``, a copy that is not counted."""

    def __init__(self, passes: Passes, encoder: Encoder, *, half: bool) -> None:
        self.stages: dict[str, tuple[float, Passes]] = {}
        self._passes = passes
        self._encoder = encoder
        self._half = half
        self._samples: dict[tuple[bool, int], list[float]] = {}

    def plan(self, stages: Mapping[str, float]) -> None:
        pass

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        self._sample()
        began, before = now(), copy.copy(self._passes)
        try:
            yield from range(total)
        finally:  # a search may stop before its last step
            spent = Passes(self._passes.learning - before.learning, self._passes.looking - before.looking)
            self.stages[name] = (now() - began, spent)
            self._sample()

    def log(self, **scalars: float) -> None:
        pass

    def bare(self, *, learning: bool) -> float:
        """Seconds of an image's bare pass."""
        return min(statistics.median(self._samples[learning, batch]) for batch in BATCHES)

    def _sample(self) -> None:
        for learning in (False, True):
            for batch in BATCHES:
                # The first pass of all prepares the kernels.
                for _ in range(1 if (learning, batch) in self._samples else 2):
                    seconds = seconds_per_image(self._encoder, batch, learning=learning, half=self._half)
                self._samples.setdefault((learning, batch), []).append(seconds)


def now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_per_image(encoder: Encoder, batch: int, *, learning: bool, half: bool) -> float:
    """One bare forward pass and, where ``learning``, the backward pass to the pixels and to weights that learn."""
    pixels = torch.rand(batch, 3, SIZE, SIZE).to(encoder.device, memory_format=torch.channels_last)
    began = now()
    with torch.set_grad_enabled(learning), mixed_precision(encoder.device, encoder, enabled=half):
        features = encoder(pixels.requires_grad_(learning))
        if learning:
            inputs = [pixels, *(weight for weight in encoder.parameters() if weight.requires_grad)]
            torch.autograd.grad(features.float().square().mean(), inputs)
    return (now() - began) / batch


def report(title: str, device: torch.device, clock: Stopwatch) -> None:
    bare = {learning: clock.bare(learning=learning) for learning in (True, False)}
    print(f"\n{title} on {device}, {torch.get_num_threads()} thread(s):", end="")
    print(f" bare {1 / bare[False]:.0f} images/s forward, {1 / bare[True]:.0f} with backward")
    for stage, (seconds, passes) in clock.stages.items():
        least = passes.learning * bare[True] + passes.looking * bare[False]
        images = passes.learning + passes.looking
        print(f"  {stage:45} {images / seconds:8.0f} images/s   {least / seconds:5.2f} of the bare passes' speed")


def counted(encoder: Encoder, *, trained: bool = False, half: bool = True) -> tuple[Encoder, Stopwatch]:
    """A copy whose images are counted, and the clock that compares. Bare passes go back to the weights too where the
    encoder is ``trained``, and are in bf16 where there is such and ``half`` allows it."""
    passes = Passes()
    subject = copy.deepcopy(encoder)
    # A plain function: copies of the encoder (students, teachers) keep pointing to the same counter.
    subject.register_forward_pre_hook(lambda module, given: passes.count(given[0]))
    bare = copy.deepcopy(encoder).eval().requires_grad_(trained)
    return subject, Stopwatch(passes, bare, half=half)
