"""MoCo's queue: the keys of the last batches, which serve as negatives (He et al., CVPR 2020, Sec. 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.training.parallel import gathered


class KeyQueue(nn.Module):
    """``size`` unit keys of ``dim`` numbers, at first random ones; a ring in which new keys replace the oldest.

    The buffers have the names and the meaning of lightly's memory bank, so that checkpoints of either fit the other.
    They are not part of the state dict: a trainer saves them itself, or does not need them.
    """

    bank: Tensor
    bank_ptr: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("bank", functional.normalize(torch.randn(size, dim), dim=1), persistent=False)
        self.register_buffer("bank_ptr", torch.zeros(1, dtype=torch.int64), persistent=False)

    def negatives(self) -> Tensor:
        """The keys as they stand, ``[dim, size]``; later pushes do not change what was returned."""
        return self.bank.clone().T

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replace the oldest keys by ``keys`` ``[B, dim]`` of all processes; what does not fit before the ring's end
        is left out."""
        keys = gathered(keys)
        at = int(self.bank_ptr)
        kept = keys[: len(self.bank) - at]
        self.bank[at : at + len(kept)] = kept
        self.bank_ptr[0] = 0 if at + len(keys) >= len(self.bank) else at + len(keys)
