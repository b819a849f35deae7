"""An additive pattern: x' = clip(x + d). Spectral (CTRL) and noise triggers look like this in pixel space."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from core.device import to_like
from core.types import Images


@dataclass(frozen=True)
class AdditiveTrigger:
    """``delta`` ``[3, H, W]`` in units of the [0, 1] image."""

    delta: Tensor

    def __call__(self, images: Images) -> Images:
        return (images + to_like(self.delta, images)).clamp(0, 1)

    def area(self) -> float:
        """Fraction of pixels that change by at least half a grey level in some channel."""
        return float((self.delta.abs().amax(0) >= 0.5 / 255).float().mean())
