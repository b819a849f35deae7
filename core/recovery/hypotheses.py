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

from core.device import to_like
from core.ops.dct import inverse_dct
from core.ops.masks import mask_with_budget
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.types import Images

OPAQUE_PATCH = "opaque-patch"
"""The kind of :class:`WindowPattern`."""

BLOCK = 32
"""Pixels of a side of the blocks that a spectral pattern repeats in, as CTRL does."""


def kind_key(kind: str, bound: float) -> str:
    """The key of one kind of trigger with its ``bound``, which is relative to the image or on a scale that does not
    know its size: what scores are stored and compared by at every image size. Names are for people only."""
    return f"{kind}@{bound:.4g}"


class Hypothesis(Protocol):
    """``channels`` unconstrained numbers per place of a canvas become a trigger; all methods work on any leading
    dimensions. The canvas is the image for patterns in pixels, a block of frequencies for spectral ones. ``key`` is
    that of :func:`kind_key`."""

    @property
    def name(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def channels(self) -> int: ...

    def canvas(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of ``raw`` for images of ``image_size``."""
        ...

    def stamp(self, raw: Tensor, images: Images) -> Images:
        """``raw`` ``[..., C, *canvas]`` broadcast against ``images`` ``[..., 3, H, W]``."""
        ...

    def trigger(self, raw: Tensor, image_size: tuple[int, int]) -> MaskedTrigger | AdditiveTrigger:
        """The trigger of one ``raw`` ``[C, *canvas]``, detached, on the CPU."""
        ...

    def size(self, trigger: MaskedTrigger | AdditiveTrigger) -> tuple[float, str]:
        """How large ``trigger`` is, in this hypothesis' own measure, and the measure's name."""
        ...


class _OnPixels:
    """What the hypotheses that paint pixels share."""

    def canvas(self, image_size: tuple[int, int]) -> tuple[int, int]:
        return image_size

    def size(self, trigger: MaskedTrigger | AdditiveTrigger) -> tuple[float, str]:
        return trigger.area(), "fraction of pixels"


@dataclass(frozen=True)
class MaskedPattern(_OnPixels):
    """A pattern shown through a soft mask that covers ``budget`` of the pixels, anywhere and in any shape."""

    budget: float

    channels = 4

    @property
    def name(self) -> str:
        return f"masked pattern, {self.budget:.0%} of the pixels"

    @property
    def key(self) -> str:
        return kind_key("masked", self.budget)

    def stamp(self, raw: Tensor, images: Images) -> Images:
        mask = mask_with_budget(raw[..., :1, :, :], self.budget)
        # The factor 2 lets Adam's step reach saturated colours in tens of steps.
        return images + mask * (torch.sigmoid(2 * raw[..., 1:, :, :]) - images)

    def trigger(self, raw: Tensor, image_size: tuple[int, int]) -> MaskedTrigger:
        raw = raw.detach().float().cpu()
        return MaskedTrigger(mask_with_budget(raw[:1], self.budget), torch.sigmoid(2 * raw[1:]))


@dataclass(frozen=True)
class AdditivePattern(_OnPixels):
    """A pattern added to the whole image, at most ``amplitude`` (on the [0, 1] scale) in any channel."""

    amplitude: float

    channels = 3

    @property
    def name(self) -> str:
        return f"additive pattern, {self.amplitude * 255:.0f}/255"

    @property
    def key(self) -> str:
        return kind_key("additive", self.amplitude)

    def stamp(self, raw: Tensor, images: Images) -> Images:
        return (images + self.amplitude * torch.tanh(raw)).clamp(0, 1)

    def trigger(self, raw: Tensor, image_size: tuple[int, int]) -> AdditiveTrigger:
        return AdditiveTrigger(self.amplitude * torch.tanh(raw.detach().float().cpu()))

    def size(self, trigger: MaskedTrigger | AdditiveTrigger) -> tuple[float, str]:
        return self.amplitude, "largest change on the [0, 1] scale"


@dataclass(frozen=True)
class SpectralPattern:
    """A few waves added to every 32x32 block of the image, ``budget`` in all: the sum over frequencies of the largest
    channel's amplitude (orthonormal DCT of the [0, 1] image).

    CTRL's trigger is two waves in two chroma channels, 1.6 in this measure. A budget on the sum wants few frequencies,
    where a bound on every pixel (:class:`AdditivePattern`) wants many.
    """

    budget: float

    channels = 4

    @property
    def name(self) -> str:
        return f"spectral pattern, {self.budget:.1f} per block"

    @property
    def key(self) -> str:
        return kind_key("spectral", self.budget)

    def canvas(self, image_size: tuple[int, int]) -> tuple[int, int]:
        return min(image_size[0], BLOCK), min(image_size[1], BLOCK)

    def stamp(self, raw: Tensor, images: Images) -> Images:
        return (images + self._pattern(raw, (images.shape[-2], images.shape[-1]))).clamp(0, 1)

    def trigger(self, raw: Tensor, image_size: tuple[int, int]) -> AdditiveTrigger:
        return AdditiveTrigger(self._pattern(raw.detach().float().cpu(), image_size))

    def size(self, trigger: MaskedTrigger | AdditiveTrigger) -> tuple[float, str]:
        return self.budget, "sum of wave amplitudes per 32x32 block"

    def _pattern(self, raw: Tensor, image_size: tuple[int, int]) -> Tensor:
        """The first channel of ``raw`` shares the budget out among frequencies, the others colour each wave."""
        height, width = raw.shape[-2:]
        # The factor 2 lets Adam's step pick frequencies in tens of steps.
        shares = torch.softmax(2 * raw[..., :1, :, :].float().flatten(-2), dim=-1).unflatten(-1, (height, width))
        block = inverse_dct(self.budget * shares * torch.tanh(raw[..., 1:, :, :].float()))
        times = (-(-image_size[0] // height), -(-image_size[1] // width))
        repeats = (1,) * (block.dim() - 2) + times
        return block.repeat(repeats)[..., : image_size[0], : image_size[1]]


@dataclass(frozen=True)
class WindowPattern(_OnPixels):
    """An opaque patch in a fixed window: rows ``top``.. and columns ``left``.., ``side`` pixels square. ``bound`` is
    the side that was asked for, relative to the image's shorter side."""

    top: int
    left: int
    side: int
    bound: float

    channels = 3

    @property
    def name(self) -> str:
        return f"opaque patch, {self.side}x{self.side} pixels"

    @property
    def key(self) -> str:
        return kind_key(OPAQUE_PATCH, self.bound)

    def mask(self, height: int, width: int) -> Tensor:
        mask = torch.zeros(1, height, width)
        mask[:, self.top : self.top + self.side, self.left : self.left + self.side] = 1
        return mask

    def stamp(self, raw: Tensor, images: Images) -> Images:
        mask = to_like(self.mask(*raw.shape[-2:]), raw)
        return images + mask * (torch.sigmoid(2 * raw) - images)

    def trigger(self, raw: Tensor, image_size: tuple[int, int]) -> MaskedTrigger:
        return MaskedTrigger(self.mask(*raw.shape[-2:]), torch.sigmoid(2 * raw.detach().float().cpu()))
