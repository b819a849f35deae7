"""How much of the time goes into the encoder: each stage of an audit against the encoder's bare passes.

Every image that passes the encoder is counted, with and without gradients. What those passes cost by themselves, in the
same run, is the least that the stage can take; the printed share is that least over what it took. Nothing is asserted.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from core.catalog import KINDS, read_parameters
from core.device import mixed_precision, resolve_device
from core.encoders.fresh import fresh_encoder
from core.encoders.stems import training_card
from core.method_rows import DETECTION, PURIFICATION
from core.methods import Choice
from core.run import Stateful
from core.triggers import MaskedTrigger
from core.types import Encoder
from tests.planted import SIZE, planted_images

IMAGES = 512
STEPS = 8
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


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    made = fresh_encoder(training_card("torchvision/resnet18", SIZE, stem="fast"), seed=0)
    return made.requires_grad_(False).to(resolve_device("auto"), memory_format=torch.channels_last)


def seconds_per_image(encoder: Encoder, batch: int, *, learning: bool) -> float:
    """One bare forward pass and, where ``learning``, the backward pass to the pixels and to weights that learn."""
    pixels = torch.rand(batch, 3, SIZE, SIZE).to(encoder.device, memory_format=torch.channels_last)
    best = float("inf")
    for _ in range(6):
        began = now()
        with torch.set_grad_enabled(learning), mixed_precision(encoder.device, encoder):
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


def chosen(kind: str, values: Mapping[str, object]) -> Mapping[str, Choice]:
    return read_parameters(KINDS[kind], values).chosen


def counted(encoder: Encoder) -> tuple[Encoder, Stopwatch]:
    passes = Passes()
    subject = copy.deepcopy(encoder)
    # A plain function: copies of the encoder (students, teachers) keep pointing to the same counter.
    subject.register_forward_pre_hook(lambda module, given: passes.count(given[0]))
    return subject, Stopwatch(passes)


@pytest.mark.parametrize("method", DETECTION, ids=lambda method: method.key)
def test_detection(method, encoder: Encoder) -> None:
    steps = {name: STEPS for name in method.config.model_fields if name.endswith("steps")}
    config = chosen("detect", {"detection": {"method": method.key, **steps}})["detection"].config
    subject, clock = counted(encoder)
    method.apply(subject, planted_images(IMAGES), config, clock, seed=0)
    report(f"detection, {method.key},", encoder, clock)


@pytest.mark.parametrize("method", PURIFICATION, ids=lambda method: method.key)
def test_purification(method, encoder: Encoder) -> None:
    steps = {
        name: STEPS for name, field in method.config.model_fields.items() if name.endswith("steps") and field.default
    }
    config = chosen("purify", {"purification": {"method": method.key, **steps}})["purification"].config
    subject, clock = counted(encoder)
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, -6:, -6:] = 1
    method.apply(
        subject, planted_images(IMAGES), [MaskedTrigger(mask, torch.ones(3, SIZE, SIZE))], config, clock, seed=0
    )
    report(f"purification, {method.key},", copy.deepcopy(encoder).requires_grad_(True), clock)
