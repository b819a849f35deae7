"""The cut lies where the fewest images are."""

import torch

from core.cleansing.cut import LARGEST_CUT, LEAST_CUT, distribution, valley

NOTHING_KNOWN = torch.tensor([])


def scores(*groups: tuple[int, float, float]) -> torch.Tensor:
    """``count`` scores spread evenly over ``[low, high]``, for each group."""
    return torch.cat([torch.linspace(low, high, count) for count, low, high in groups])


def test_the_cut_lies_between_clean_and_poisoned():
    assert 0.6 <= valley(scores((1000, 0.0, 0.55), (100, 0.75, 1.0)), NOTHING_KNOWN) <= 0.7


def test_a_well_learnt_trigger_leaves_clean_stragglers_below_the_cut():
    assert valley(scores((1000, 0.0, 0.4), (60, 0.4, 0.78), (100, 0.99, 1.0)), NOTHING_KNOWN) == LARGEST_CUT


def test_a_trigger_learnt_half_is_not_cut_away():
    assert LEAST_CUT <= valley(scores((1000, 0.0, 0.4), (100, 0.55, 0.9)), NOTHING_KNOWN) < 0.55


def test_the_images_with_the_trigger_lie_above_the_cut():
    """Few images are above 0.75, but those are what was looked for."""
    spread = scores((1000, 0.0, 0.55), (60, 0.62, 0.79))
    assert valley(spread, NOTHING_KNOWN) == LARGEST_CUT
    assert 0.55 <= valley(spread, scores((18, 0.63, 0.79), (2, 0.1, 0.2))) <= 0.64
    assert valley(spread, scores((20, 0.3, 0.4))) == LEAST_CUT


def test_the_distribution_counts_every_image():
    found = distribution(torch.tensor([0.0, 0.01, 0.5, 0.999, 1.0]), 0.5, bins=10)
    assert sum(found.counts) == 5 and found.counts[0] == 2 and found.counts[-1] == 2
    assert len(found.edges) == 11 and found.cut == 0.5
