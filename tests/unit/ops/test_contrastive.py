"""NT-Xent against its definition, term by term."""

import math

import pytest
import torch

from core.ops.contrastive import nt_xent


def test_equals_the_definition_written_out() -> None:
    random = torch.Generator().manual_seed(0)
    first, second = torch.randn(4, 6, generator=random), torch.randn(4, 6, generator=random)
    z = torch.nn.functional.normalize(torch.cat([first, second]), dim=1)
    losses = []
    for i in range(8):
        similar = [math.exp(float(z[i] @ z[j]) / 0.5) if j != i else 0.0 for j in range(8)]
        losses.append(-math.log(similar[(i + 4) % 8] / sum(similar)))
    assert float(nt_xent(first, second, temperature=0.5)) == pytest.approx(sum(losses) / 8, rel=1e-5)


def test_alike_views_that_differ_from_the_rest_cost_little() -> None:
    views = torch.eye(5)
    assert float(nt_xent(views, views, temperature=0.05)) < 1e-6
    assert float(nt_xent(views, views.roll(1, dims=0), temperature=0.05)) > 10
