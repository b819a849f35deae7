"""An encoder as it is used, not trained: BatchNorm reads its statistics and does not move them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from core.types import Encoder


@contextmanager
def frozen(encoder: Encoder) -> Iterator[Encoder]:
    """``encoder`` in eval mode and without gradients; afterwards each of its layers is in the mode it was in."""
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        with torch.no_grad():
            yield encoder
    finally:
        # Layer by layer: a trainer may hold BatchNorm in eval mode inside an encoder in train mode.
        for module, training in modes.items():
            module.training = training
