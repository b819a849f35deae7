"""The n trigger generators of SSLDefender (Sec. IV-B, after MESA), evaluated together.

Each generator maps noise to unconstrained pixel numbers. Its output bias is the trigger itself and starts as N(0, 1);
the layers before it add the spread that the mutual-information term asks for. The bias makes the n sub-models
*restarts*: which basin a search ends in is decided by where it starts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu

from core.device import to_like

MAX_GRID = 64
"""Generators paint on a grid of at most this many places a side, enlarged to the canvas: a 224-pixel output layer would
have a hundred million weights, and single-pixel noise at that size is no trigger that survives resizing."""


class TriggerGenerators(nn.Module):
    """``count`` generators from noise ``[n, B, noise_dim]`` to raw triggers ``[n, B, C, H, W]``."""

    def __init__(
        self,
        count: int,
        channels: int,
        canvas: tuple[int, int],
        *,
        noise_dim: int,
        hidden: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.count, self.channels, self.canvas, self.noise_dim = count, channels, canvas, noise_dim
        self.grid = (min(canvas[0], MAX_GRID), min(canvas[1], MAX_GRID))
        outputs = channels * self.grid[0] * self.grid[1]
        scale = 1 / math.sqrt(noise_dim)
        self.first = nn.Parameter(torch.randn(count, noise_dim, hidden, generator=generator) * scale)
        # Small: at the start a generator's triggers differ little from its bias.
        self.last = nn.Parameter(torch.randn(count, hidden, outputs, generator=generator) * (0.1 / math.sqrt(hidden)))
        self.bias = nn.Parameter(torch.randn(count, 1, outputs, generator=generator))

    def noise(self, batch: int, generator: torch.Generator) -> Tensor:
        """z ~ U[-1/2, 1/2], ``[n, batch, noise_dim]``; z = 0 is each generator's central trigger."""
        return to_like(torch.rand(self.count, batch, self.noise_dim, generator=generator) - 0.5, self.bias)

    def grid_values(self, z: Tensor) -> Tensor:
        """Raw triggers on the grid, ``[n, B, C * h * w]``: what the statistics networks look at."""
        return leaky_relu(z @ self.first, 0.2) @ self.last + self.bias

    def to_images(self, values: Tensor) -> Tensor:
        """Grid values ``[n, B, C * h * w]`` as raw triggers of the canvas' size, ``[n, B, C, H, W]``."""
        n, batch, _ = values.shape
        raw = values.view(n * batch, self.channels, *self.grid)
        if self.grid != self.canvas:
            raw = interpolate(raw, self.canvas, mode="bilinear", align_corners=False)
        return raw.view(n, batch, self.channels, *self.canvas)

    @torch.no_grad()
    def central(self) -> Tensor:
        """Each generator's trigger at z = 0, ``[n, C, H, W]``."""
        z = torch.zeros(self.count, 1, self.noise_dim, device=self.bias.device)
        return self.to_images(self.grid_values(z))[:, 0]
