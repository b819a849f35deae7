"""MINE: a lower bound of the mutual information between noise and what a generator makes of it.

Donsker-Varadhan: I(X; Z) >= E_joint[T] - log E_marginals[e^T] (Belghazi et al. 2018, Eq. 5), with the statistics
network T trained by ascent on the same bound, as in MESA (Qiao et al. 2019). Both expectations are over one batch; the
marginal pairs shift z by one sample.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu


def donsker_varadhan(joint: Tensor, marginal: Tensor) -> Tensor:
    """The bound from the statistics of joint and marginal pairs, both ``[n, B]``; one bound in nats per row,
    ``[n]``."""
    return joint.mean(-1) - (torch.logsumexp(marginal, dim=-1) - math.log(marginal.shape[-1]))


class StatisticsNetworks(nn.Module):
    """n independent statistics networks T_i(z, x), evaluated together.

    Args:
        count: how many networks (n). z_dim, x_dim: lengths of the two arguments. hidden: units per layer.
        generator: draws the initial weights.
    """

    def __init__(self, count: int, z_dim: int, x_dim: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()

        def weight(inputs: int, outputs: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(count, inputs, outputs, generator=generator) / math.sqrt(inputs))

        self.from_z = weight(z_dim, hidden)
        self.from_x = weight(x_dim, hidden)
        self.middle = weight(hidden, hidden)
        self.last = weight(hidden, 1)
        self.bias = nn.Parameter(torch.zeros(count, 1, hidden))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """``z`` ``[n, B, z_dim]`` and ``x`` ``[n, B, x_dim]`` to the statistic ``[n, B]``."""
        h = leaky_relu(z @ self.from_z + x @ self.from_x + self.bias, 0.2)
        statistic: Tensor = leaky_relu(h @ self.middle, 0.2) @ self.last
        return statistic.squeeze(-1)

    def information(self, z: Tensor, x: Tensor) -> Tensor:
        """The bound for each of the n networks, ``[n]`` nats, non-negative in expectation once trained."""
        return donsker_varadhan(self(z, x), self(z.roll(1, dims=1), x))
