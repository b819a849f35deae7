"""How recovery looks at an encoder: frozen weights, folded BatchNorm, bf16 where it is fast, memory in bounds."""

from __future__ import annotations

import copy

import torch

from core.micro_batches import features_in_chunks, features_of
from core.recovery.folding import folded
from core.types import Encoder

__all__ = ["features_in_chunks", "features_of", "frozen"]


def frozen(encoder: Encoder) -> Encoder:
    """A copy in eval mode whose weights take no gradient: a third of a step's work is then not done. Its BatchNorm
    layers are folded into the convolutions before them.

    The caller's encoder keeps its mode and its ``requires_grad`` flags.
    """
    return folded(copy.deepcopy(encoder).eval().requires_grad_(False).to(memory_format=torch.channels_last))
