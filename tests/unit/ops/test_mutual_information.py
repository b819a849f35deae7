"""MINE against the closed form for correlated Gaussians: I = -1/2 log(1 - rho^2) per dimension."""

import math

import pytest
import torch

from core.ops.mutual_information import StatisticsNetworks, donsker_varadhan


def trained_bound(rho: float, steps: int = 400, batch: int = 512) -> float:
    random = torch.Generator().manual_seed(0)
    network = StatisticsNetworks(1, 1, 1, 32, random)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)

    def pairs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        z = torch.randn(1, count, 1, generator=random)
        return z, rho * z + math.sqrt(1 - rho**2) * torch.randn(1, count, 1, generator=random)

    for _ in range(steps):
        z, x = pairs(batch)
        optimiser.zero_grad()
        (-network.information(z, x).sum()).backward()
        optimiser.step()
    with torch.no_grad():
        z, x = pairs(20_000)
        return float(network.information(z, x))


@pytest.mark.parametrize("rho", [0.6, 0.9])
def test_the_bound_approaches_the_information_of_correlated_gaussians(rho: float) -> None:
    assert trained_bound(rho) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.1)


def test_independent_pairs_share_no_information() -> None:
    assert abs(trained_bound(0.0)) < 0.05


def test_a_constant_statistic_bounds_nothing() -> None:
    constant = torch.full((2, 10), 3.0)
    assert torch.allclose(donsker_varadhan(constant, constant), torch.zeros(2), atol=1e-6)
