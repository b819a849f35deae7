"""NT-Xent against a direct reading of the paper, a closed form, and lightly's."""

import math

import pytest
import torch
from lightly.loss import NTXentLoss

from core.ops.nt_xent import nt_xent


def projections(count=8):
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(0))


def test_it_is_the_papers_sum():
    z = torch.nn.functional.normalize(projections(), dim=1)
    total = 0.0
    for i in range(8):
        j = (i + 4) % 8
        denominator = sum(math.exp(float(z[i] @ z[k]) / 0.5) for k in range(8) if k != i)
        total -= math.log(math.exp(float(z[i] @ z[j]) / 0.5) / denominator)
    assert float(nt_xent(3 * z, 0.5)) == pytest.approx(total / 8, rel=1e-5)


def test_orthogonal_pairs_have_a_closed_form():
    z = torch.cat([torch.eye(4), torch.eye(4)])
    assert float(nt_xent(z, 0.5)) == pytest.approx(-math.log(math.e**2 / (math.e**2 + 6)), rel=1e-5)


def test_a_tiny_temperature_is_survived():
    assert torch.isfinite(nt_xent(projections(), 1e-4))


def test_it_is_lightlys_too():
    first, second = projections(12).chunk(2)
    assert float(nt_xent(projections(12), 0.3)) == pytest.approx(float(NTXentLoss(0.3)(first, second)), rel=1e-5)
