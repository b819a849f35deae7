"""One step of unlearning within the memory budget: pairs of a clean and a triggered image, student and teacher.

A loss that is a mean over images is taken part by part, without a second pass. One that looks at the whole batch
(sliced Wasserstein) gets all features first, and each part passes again in the backward pass. Both give the gradient of
the whole batch, but for one thing: BatchNorm in training mode normalises a part by the part's own statistics, as it
does on each of several GPUs. The report then says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from core.device import mixed_precision
from core.micro_batches import Cost, cost_of, even_slices, fitting, joined, recomputed
from core.types import Encoder, Features, Images
from core.unlearning.feature_maps import map_gap

LEAST_PAIRS = 8
"""Pairs whose statistics BatchNorm may learn by; fewer make them noise."""


class FeatureLoss(Protocol):
    """A scalar, from features ``[b, D]``: the student's of clean and of triggered images, the teacher's of the clean
    ones, and where each image's trigger led."""

    def __call__(self, of_clean: Features, of_triggered: Features, taught: Features, led_to: Features) -> Tensor: ...


@dataclass(frozen=True)
class PairedPasses:
    """``own_maps`` and ``taught_maps`` hold the feature maps of the last pass of each network (``stages.captured``),
    whose gap counts ``map_weight``; none without maps."""

    student: Encoder
    teacher: Encoder
    own_maps: Mapping[str, Tensor]
    taught_maps: Mapping[str, Tensor]
    map_weight: float

    def descend(
        self, clean: Images, triggered: Images, led_to: Features, loss: FeatureLoss, *, divisible: bool
    ) -> Tensor:
        """Add the gradient of a step's loss to the student's weights; the loss, detached. ``clean`` and ``triggered``
        are ``[B, 3, H, W]``; ``divisible`` says that ``loss`` is a mean over images."""
        parts = self._parts(clean)
        shares = [(part.stop - part.start) / len(clean) for part in parts]
        if divisible or len(parts) == 1:
            total = torch.zeros((), device=clean.device)
            for part, share in zip(parts, shares, strict=True):
                of_clean, of_triggered, taught, gap = self._look(clean[part], triggered[part])
                value = loss(of_clean, of_triggered, taught, led_to[part]) + self.map_weight * gap.sum()
                (share * value).backward()
                total += share * value.detach()
            return total
        seen = (recomputed(self._look, clean[part], triggered[part]) for part in parts)
        of_clean, of_triggered, taught, gaps = joined(seen)
        value = loss(of_clean, of_triggered, taught, led_to) + self.map_weight * (gaps * gaps.new_tensor(shares)).sum()
        value.backward()
        return value.detach()

    def note(self, images: Images, batch: int) -> tuple[str, ...]:
        """A sentence for the report where BatchNorm learns by parts of the ``batch`` pairs of a step."""
        parts = even_slices(batch, self._at_once(images))
        if len(parts) == 1 or not self._learns_statistics():
            return ()
        return (
            f"BatchNorm saw {2 * (parts[0].stop - parts[0].start)} images at a time instead of {2 * batch}: the memory "
            "budget holds no more.",
        )

    def _parts(self, images: Images) -> list[slice]:
        return even_slices(len(images), self._at_once(images))

    def _at_once(self, images: Images) -> int:
        size = (images.shape[-2], images.shape[-1])
        own, taught = cost_of(self.student, size, learning=True), cost_of(self.teacher, size, learning=False)
        pair = Cost(own.fixed + taught.fixed, 2 * own.each + taught.each)
        least = LEAST_PAIRS if self._learns_statistics() else 1
        return fitting(pair, self.student.device, least=least, whose=f"a step with {2 * least} images")

    def _learns_statistics(self) -> bool:
        layers = (layer for layer in self.student.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm))
        return any(layer.training for layer in layers)

    def _look(self, clean: Images, triggered: Images) -> tuple[Tensor, ...]:
        """The three kinds of features, and the gap of the maps, ``[1]``; both halves pass the student as one batch."""
        with mixed_precision(self.student.device, self.student):
            both = torch.cat([clean, triggered]).contiguous(memory_format=torch.channels_last)
            features: Features = self.student(both)
            with torch.no_grad():
                taught: Features = self.teacher(clean.contiguous(memory_format=torch.channels_last))
        of_clean, of_triggered = features.float().chunk(2)
        gap = map_gap(self.own_maps, self.taught_maps) if self.taught_maps else of_clean.new_zeros(())
        return of_clean, of_triggered, taught, gap.view(1)
