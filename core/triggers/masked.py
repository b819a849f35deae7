"""A masked pattern: x' = (1 - m) x + m p. With a 0/1 mask it is the opaque patch of BadEncoder and SSL-Backdoor."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from core.device import to_like
from core.types import Images


@dataclass(frozen=True)
class MaskedTrigger:
    """``mask`` ``[1, H, W]`` and ``pattern`` ``[3, H, W]``, both float in [0, 1]."""

    mask: Tensor
    pattern: Tensor

    def __call__(self, images: Images) -> Images:
        mask = to_like(self.mask, images)
        return images + mask * (to_like(self.pattern, images) - images)

    def area(self) -> float:
        """Mean of the mask: DECREE's P-L1 (field: ``||m||_1`` over its largest possible value)."""
        return float(self.mask.float().mean())
