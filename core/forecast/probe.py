"""What one image costs on this device, measured for a few seconds with the very steps that the searches are made of.

A step stamps a pattern on real images, passes them through the frozen copy in the precision that the device is good at,
and, where it learns, goes back to the pattern; a training step goes back to the weights. Batches are as large as the
searches' for small images and smaller for large or slow ones: what counts is the time per image.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from core.device import is_gpu
from core.micro_batches import room
from core.ops.cosine import pairwise_similarity
from core.passes import Passes
from core.recovery.forward import features_of, frozen
from core.recovery.hypotheses import AdditivePattern
from core.types import Encoder, Images, ImageSet

SECONDS = 4.0
"""How long all measurements together take, about; a slow encoder's few images may take longer."""
_IMAGES, _PIXELS = 192, 16 * 224 * 224
"""Images of a step at most, and pixels of one at most."""
_LEAST = 2
"""Images of the first step."""
_COUPLED = 48
"""Images that one loss of the searches couples: where the memory budget does not hold them, they pass twice."""
_GROWTH = 4
"""By which a step's images grow while there is time."""
_FEWEST, _MOST = 3, 9
"""Steps of which the median is taken."""


@dataclass(frozen=True)
class Speeds:
    """Seconds per image of a pass of each kind; 0 for what was not asked for."""

    forward: float
    backward: float = 0.0
    training: float = 0.0

    def seconds(self, passes: Passes) -> float:
        """What ``passes`` take."""
        return passes.forward * self.forward + passes.backward * self.backward + passes.training * self.training


def measure_speeds(encoder: Encoder, images: ImageSet, needed: Passes, *, seconds: float = SECONDS) -> Speeds:
    """The speeds of the kinds of pass that ``needed`` has, on the encoder's device. The encoder is unchanged."""
    asked = [name for name in ("forward", "backward", "training") if name == "forward" or getattr(needed, name)]
    batch = max(_LEAST, min(_IMAGES, _PIXELS // (encoder.image_size[0] * encoder.image_size[1])))
    found = {name: _per_image(_STEPS[name](encoder, images), batch, seconds / len(asked), encoder) for name in asked}
    speeds = Speeds(**found)
    if speeds.backward and room(frozen(encoder), _some(images, 1, encoder), learning=True) < _COUPLED:
        return replace(speeds, backward=speeds.backward + speeds.forward)
    return speeds


def _per_image(step: Callable[[int], None], batch: int, seconds: float, encoder: Encoder) -> float:
    """Seconds per image of ``step`` on ``batch`` images; the first step, which prepares kernels, is not counted.

    Few images say little of many, but many of a slow encoder would take minutes. So the step grows while there is time;
    where it ends before ``batch``, what two sizes took says what a step costs and what an image adds to it.
    """
    _timed(step, _LEAST, encoder)
    before, size = (0, 0.0), _LEAST
    while True:
        once = min(_timed(step, size, encoder) for _ in range(2))
        hurried = _GROWTH * once * (_FEWEST + 2) > seconds
        if size >= batch or (hurried and before[0]):
            break
        before, size = (size, once), min(batch, size * (2 if hurried else _GROWTH))
    began = time.perf_counter()
    taken = [once]
    while len(taken) < _FEWEST or (len(taken) < _MOST and time.perf_counter() - began < seconds / 2):
        taken.append(_timed(step, size, encoder))
        if time.perf_counter() - began > seconds:
            break
    return per_image_of(batch, before, (size, statistics.median(taken)))


def per_image_of(batch: int, fewer: tuple[int, float], more: tuple[int, float]) -> float:
    """Seconds per image of a step on ``batch`` images, from (images, seconds) of two smaller ones: a step costs
    something, and every image adds to it. An image adds at least half of what it costs in the larger one."""
    images, seconds = more
    if images >= batch:
        return seconds / images
    added = (seconds - fewer[1]) / (images - fewer[0])
    added = min(max(added, seconds / images / 2), seconds / images)
    return added + (seconds - added * images) / batch


def _timed(step: Callable[[int], None], batch: int, encoder: Encoder) -> float:
    began = time.perf_counter()
    step(batch)
    if is_gpu(encoder.device):
        torch.cuda.synchronize(encoder.device)
    return time.perf_counter() - began


def _some(images: ImageSet, count: int, encoder: Encoder) -> Images:
    """The first ``count`` images; where there are fewer they come again."""
    return images.batch(torch.arange(count) % len(images), encoder.device)


def _forward_step(encoder: Encoder, images: ImageSet) -> Callable[[int], None]:
    network = frozen(encoder)

    @torch.no_grad()
    def step(count: int) -> None:
        pairwise_similarity(features_of(network, _some(images, count, network).flip(3)))

    return step


def _backward_step(encoder: Encoder, images: ImageSet) -> Callable[[int], None]:
    network = frozen(encoder)
    pattern = AdditivePattern(12 / 255)
    raw = torch.zeros(3, *encoder.image_size, device=encoder.device, requires_grad=True)

    def step(count: int) -> None:
        raw.grad = None
        stamped = pattern.stamp(raw, _some(images, count, network))
        pairwise_similarity(features_of(network, stamped)).backward()

    return step


def _training_step(encoder: Encoder, images: ImageSet) -> Callable[[int], None]:
    student = copy.deepcopy(encoder).eval().requires_grad_(True).to(memory_format=torch.channels_last)

    def step(count: int) -> None:
        student.zero_grad(set_to_none=True)
        pairwise_similarity(features_of(student, _some(images, count, student))).backward()

    return step


_STEPS: dict[str, Callable[[Encoder, ImageSet], Callable[[int], None]]] = {
    "forward": _forward_step,
    "backward": _backward_step,
    "training": _training_step,
}
