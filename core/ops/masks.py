"""Masks with a fixed budget of pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def mask_with_budget(logits: Tensor, budget: float, *, rounds: int = 3) -> Tensor:
    """Masks in [0, 1] whose mean is ``budget`` (fraction of pixels), from ``logits`` ``[..., 1, H, W]``; same shape.

    A softmax scaled to the budget; what exceeds 1 is cut and handed to the pixels below 1, ``rounds`` times. Unlike a
    sigmoid with a penalty on its mean, which dies to an empty mask in most restarts, the mask always spends its budget
    and the search only decides where. The mean never exceeds ``budget``; sharply peaked logits may leave part of it
    unspent after ``rounds``.
    """
    flat = logits.float().flatten(-3)
    pixels = flat.shape[-1]
    mask = torch.softmax(flat, dim=-1) * (pixels * budget)
    for _ in range(rounds):
        full = mask >= 1
        spare = pixels * budget - full.sum(-1, keepdim=True)
        free = mask.masked_fill(full, 0.0).sum(-1, keepdim=True)
        scale = (spare / free.clamp_min(1e-6)).clamp(1.0, 1e4)
        mask = torch.where(full, torch.ones_like(mask), mask * scale).clamp(max=1.0)
    return mask.view_as(logits)
