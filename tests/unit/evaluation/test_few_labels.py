"""A stratified draw: of every class, by the seed, and no more than was asked."""

import pytest
import torch

from core.evaluation.few_labels import stratified

LABELS = torch.cat([torch.zeros(300), torch.ones(100), torch.full((5,), 2)]).long()


def test_each_class_gives_its_share_and_at_least_one():
    chosen = stratified(LABELS, 0.01, 0, "x")
    assert torch.bincount(LABELS[chosen]).tolist() == [3, 1, 1]
    assert chosen.tolist() == sorted(set(chosen.tolist()))


def test_the_draw_is_the_seeds():
    draws = [stratified(LABELS, 0.05, seed, "x") for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_a_larger_share_holds_a_smaller_one_and_the_whole_is_all():
    small, large = (set(stratified(LABELS, share, 0, "x").tolist()) for share in (0.02, 0.2))
    assert small < large
    assert stratified(LABELS, 1.0, 0, "x").tolist() == list(range(len(LABELS)))


@pytest.mark.parametrize("share", [0, -0.1, 1.01])
def test_a_share_is_one(share):
    with pytest.raises(ValueError, match="share"):
        stratified(LABELS, share, 0)
