"""DECREE in its published form, written from its description, to measure ours against.

Everything in fp32, ordinary convolutions, weights that take gradients, images on the CPU until their batch comes, three
numbers fetched to the host at every step. lambda falls below its floor and is then reset to its start after more than
ten successes; the smallest mask is forgotten at the end of each epoch; the search ends after an epoch that succeeds on
average once the mask has not become smaller for more than ten steps.

Kinder than the original in what costs time and changes nothing: images are normalised as a batch, not one by one, and
the clean batch that it prepares and never uses is left out.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from core.encoders.small_maps import SmallMapConvolution
from core.types import Encoder, ImageSet


@dataclass(frozen=True)
class Published:
    """``p_l1`` is that of the last epoch, as published; ``smallest`` the smallest of all epochs (1: none)."""

    p_l1: float
    smallest: float
    steps: int


def run_published(
    encoder: Encoder, images: ImageSet, *, seed: int, batch_size: int = 128, epochs: int = 1000
) -> Published:
    """The published search with its values for 32-pixel encoders."""
    network = plain(encoder)
    height, width = encoder.image_size
    random = torch.Generator().manual_seed(seed)
    raw = [_start(channels, height, width, random).to(encoder.device).requires_grad_() for channels in (1, 3)]
    optimiser = torch.optim.Adam(raw, lr=0.5, betas=(0.5, 0.9))
    weight, above, below, streak, stale, steps = 1e-3, 0, 0, 0, 0, 0
    smallest = p_l1 = math.inf
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = 0.5 if epoch < 30 else 0.1 if epoch < 50 else 0.05
        p_l1, reached = math.inf, []
        for part in torch.randperm(len(images), generator=random).split(batch_size):
            pixels = images.batch(part).to(encoder.device)
            mask, pattern = (torch.tanh(numbers) / (2 - 1e-7) + 0.5 for numbers in raw)
            similarity = off_diagonal_cosine(network((1 - mask) * pixels + mask * pattern))
            norm = mask.expand(3, -1, -1).sum()
            loss = -similarity + weight * norm
            optimiser.zero_grad()
            network.zero_grad()
            loss.backward()
            optimiser.step()
            cosine, size, _ = similarity.item(), norm.item() / (3 * height * width), loss.item()
            reached.append(abs(cosine))
            succeeded = abs(cosine) > 0.99
            p_l1 = min(p_l1, size) if succeeded else p_l1
            stale = 0 if succeeded and size < smallest else stale + 1
            smallest = min(smallest, size) if succeeded else smallest
            streak = streak + 1 if succeeded else 0
            above, below = (above + 1, 0) if succeeded else (0, below + 1)
            if weight < 1e-5 and streak > 10:
                weight, above = 1e-3, 0
            elif above > 5:
                weight, above = weight * 5, 0
            elif below > 5:
                weight, below = weight / 5, 0
            steps += 1
        if sum(reached) / len(reached) > 0.99 and stale > 10:
            break
    return Published(min(p_l1, 1.0), min(smallest, 1.0), steps)


def plain(encoder: Encoder) -> Encoder:
    """A copy with ordinary convolutions, in PyTorch's own layout, whose weights take gradients."""
    network = copy.deepcopy(encoder).eval().requires_grad_(True).to(memory_format=torch.contiguous_format)
    for module in network.modules():
        if type(module) is SmallMapConvolution:
            module.__class__ = nn.Conv2d
    return network


def off_diagonal_cosine(features: Tensor) -> Tensor:
    """Mean cosine of all pairs of different rows, from the matrix of all pairs."""
    directions = normalize(features, dim=1)
    matrix = directions @ directions.T
    return (matrix.sum() - matrix.diagonal().sum()) / (len(matrix) * (len(matrix) - 1))


def _start(channels: int, height: int, width: int, random: torch.Generator) -> Tensor:
    uniform = torch.rand(channels, height, width, generator=random).clamp(0.01, 0.99)
    return torch.atanh((uniform - 0.5) * (2 - 1e-7))
