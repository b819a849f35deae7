"""A full image blended in: x' = (1 - a) x + a p."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from core.device import to_like
from core.types import Images


@dataclass(frozen=True)
class BlendedTrigger:
    """``alpha`` in (0, 1]; ``pattern`` ``[3, H, W]`` float in [0, 1]."""

    alpha: float
    pattern: Tensor

    def __call__(self, images: Images) -> Images:
        return (1 - self.alpha) * images + self.alpha * to_like(self.pattern, images)

    def area(self) -> float:
        return 1.0
