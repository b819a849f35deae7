"""Sliced Wasserstein against its closed forms and against POT."""

import math

import ot
import pytest
import torch

from core.ops.sliced_wasserstein import random_directions, sliced_wasserstein


def sample(count: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_a_permutation_of_the_same_sample_is_at_distance_zero() -> None:
    x = sample(50, 6, 0)
    directions = random_directions(6, 64, torch.Generator().manual_seed(1))
    assert float(sliced_wasserstein(x, x[torch.randperm(50)], directions)) < 1e-5


def test_a_shift_is_its_length_over_the_root_of_the_dimension() -> None:
    x, shift = sample(40, 5, 0), torch.tensor([3.0, 0.0, -4.0, 0.0, 0.0])
    directions = random_directions(5, 20_000, torch.Generator().manual_seed(2))
    assert float(sliced_wasserstein(x, x + shift, directions)) == pytest.approx(5 / math.sqrt(5), rel=0.02)


def test_agrees_with_pot_on_the_same_directions() -> None:
    x, y = sample(64, 8, 0), 2 * sample(64, 8, 1) + 1
    directions = random_directions(8, 100, torch.Generator().manual_seed(3))
    reference = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=directions.numpy(), p=2)
    assert float(sliced_wasserstein(x, y, directions)) == pytest.approx(float(reference), rel=1e-4)


def test_the_gradient_is_finite_where_the_samples_are_equal() -> None:
    x = sample(10, 3, 0).requires_grad_()
    sliced_wasserstein(x, x.detach(), random_directions(3, 8, torch.Generator().manual_seed(0))).backward()
    assert x.grad is not None and bool(torch.isfinite(x.grad).all())


def test_samples_of_different_size_are_refused() -> None:
    with pytest.raises(ValueError, match="equal shape"):
        sliced_wasserstein(sample(3, 2, 0), sample(4, 2, 0), random_directions(2, 2, torch.Generator()))
