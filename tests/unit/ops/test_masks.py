"""Masks spend their budget wherever the logits put it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.ops.masks import mask_with_budget


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), scale=st.floats(0, 8), budget=st.sampled_from([0.01, 0.03, 0.1, 0.25]))
def test_a_mask_stays_in_range_and_within_its_budget(seed: int, scale: float, budget: float) -> None:
    logits = scale * torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    mask = mask_with_budget(logits, budget)
    assert mask.shape == logits.shape
    assert float(mask.min()) >= 0 and float(mask.max()) <= 1
    assert torch.all(mask.flatten(1).mean(1) <= budget * 1.01)
    if scale <= 2:  # a mask that has made up its mind may leave some of its budget unspent
        assert torch.all(mask.flatten(1).mean(1) >= budget * 0.8)


def test_equal_logits_give_an_even_mask() -> None:
    mask = mask_with_budget(torch.zeros(1, 8, 8), 0.1)
    assert torch.allclose(mask, torch.full_like(mask, 0.1))


def test_clear_favourites_become_opaque_and_the_rest_stays_bare() -> None:
    logits = torch.zeros(1, 8, 8)
    logits[0, :2, :2] = 50
    mask = mask_with_budget(logits, 4 / 64)
    assert torch.allclose(mask[0, :2, :2], torch.ones(2, 2))
    assert float(mask.sum()) == pytest.approx(4, abs=1e-3)


def test_the_mask_has_a_gradient_that_trades_one_pixel_for_another() -> None:
    logits = torch.zeros(1, 4, 4, requires_grad=True)
    mask_with_budget(logits, 0.2)[0, 0, 0].backward()
    assert logits.grad is not None
    assert float(logits.grad[0, 0, 0]) > 0 > float(logits.grad[0, 1, 1])
