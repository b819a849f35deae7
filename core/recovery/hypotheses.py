"""Kinds of trigger to look for. Each maps unconstrained numbers to a trigger of bounded size.

One kind misses the other: a mask-only search reports a spectral trigger as "needs a large mask, so clean", an additive
search cannot paint an opaque patch. A bound on the size is what makes the question meaningful: a full-image pattern
makes all features alike on any encoder (SSLDefender Eq. 5 has no bound; deviation listed in ``ssldefender``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from core.ops.masks import mask_with_budget
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.types import Images


class Hypothesis(Protocol):
    """``channels`` unconstrained numbers per pixel become a trigger; all methods work on any leading dimensions."""

    @property
    def name(self) -> str: ...

    @property
    def channels(self) -> int: ...

    def stamp(self, raw: Tensor, images: Images) -> Images:
        """``raw`` ``[..., C, H, W]`` broadcast against ``images`` ``[..., 3, H, W]``."""
        ...

    def trigger(self, raw: Tensor) -> MaskedTrigger | AdditiveTrigger:
        """The trigger of one ``raw`` ``[C, H, W]``, detached, on the CPU."""
        ...


@dataclass(frozen=True)
class MaskedPattern:
    """A pattern shown through a soft mask that covers ``budget`` of the pixels, anywhere and in any shape."""

    budget: float

    channels = 4

    @property
    def name(self) -> str:
        return f"masked pattern, {self.budget:.0%} of the pixels"

    def stamp(self, raw: Tensor, images: Images) -> Images:
        mask = mask_with_budget(raw[..., :1, :, :], self.budget)
        # The factor 2 lets Adam's step reach saturated colours in tens of steps.
        return images + mask * (torch.sigmoid(2 * raw[..., 1:, :, :]) - images)

    def trigger(self, raw: Tensor) -> MaskedTrigger:
        raw = raw.detach().float().cpu()
        return MaskedTrigger(mask_with_budget(raw[:1], self.budget), torch.sigmoid(2 * raw[1:]))


@dataclass(frozen=True)
class AdditivePattern:
    """A pattern added to the whole image, at most ``amplitude`` (on the [0, 1] scale) in any channel."""

    amplitude: float

    channels = 3

    @property
    def name(self) -> str:
        return f"additive pattern, {self.amplitude * 255:.0f}/255"

    def stamp(self, raw: Tensor, images: Images) -> Images:
        return (images + self.amplitude * torch.tanh(raw)).clamp(0, 1)

    def trigger(self, raw: Tensor) -> AdditiveTrigger:
        return AdditiveTrigger(self.amplitude * torch.tanh(raw.detach().float().cpu()))


@dataclass(frozen=True)
class WindowPattern:
    """An opaque patch in a fixed window: rows ``top``.. and columns ``left``.., ``side`` pixels square."""

    top: int
    left: int
    side: int

    channels = 3

    @property
    def name(self) -> str:
        return f"opaque patch, {self.side}x{self.side} pixels"

    def mask(self, height: int, width: int) -> Tensor:
        mask = torch.zeros(1, height, width)
        mask[:, self.top : self.top + self.side, self.left : self.left + self.side] = 1
        return mask

    def stamp(self, raw: Tensor, images: Images) -> Images:
        mask = self.mask(*raw.shape[-2:]).to(raw)
        return images + mask * (torch.sigmoid(2 * raw) - images)

    def trigger(self, raw: Tensor) -> MaskedTrigger:
        return MaskedTrigger(self.mask(*raw.shape[-2:]), torch.sigmoid(2 * raw.detach().float().cpu()))
