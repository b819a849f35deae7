"""How recovery looks at an encoder: weights frozen, bf16 where it is fast, features in fp32."""

from __future__ import annotations

import copy

import torch

from core.device import mixed_precision
from core.types import Encoder, Features, Images


def frozen(encoder: Encoder) -> Encoder:
    """A copy in eval mode whose weights take no gradient: a third of a step's work is then not done.

    The caller's encoder keeps its mode and its ``requires_grad`` flags.
    """
    return copy.deepcopy(encoder).eval().requires_grad_(False).to(memory_format=torch.channels_last)


def features_of(encoder: Encoder, images: Images) -> Features:
    """Features ``[B, D]`` fp32 of ``images`` ``[B, 3, H, W]``; gradients flow to the images."""
    with mixed_precision(encoder.device, encoder):
        features: Features = encoder(images.contiguous(memory_format=torch.channels_last))
    return features.float()


@torch.no_grad()
def features_in_chunks(encoder: Encoder, images: Images, chunk: int = 256) -> Features:
    """:func:`features_of` without gradients, ``chunk`` images at a time."""
    return torch.cat([features_of(encoder, part) for part in images.split(chunk)])
