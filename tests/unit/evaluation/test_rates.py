"""Rates against the published tables and against SciPy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from core.evaluation.rates import (
    accuracy,
    all_called_target,
    called_target,
    confusion_matrix,
    false_positives,
    paired_difference,
    rate,
)


@pytest.mark.parametrize(("count", "percent"), [(2593, 52.4), (1758, 35.5), (43, 0.9), (11, 0.2)])
def test_poisoncams_false_positives_are_its_asr(count, percent):
    """PoisonCAM's Table III counts over 5,000 images, 50 of them of the target class, are its Table I rates."""
    confusion = torch.zeros(100, 100, dtype=torch.int64)
    confusion[0, 0] = 50
    confusion[1, 0], confusion[1, 1] = count, 4950 - count
    assert round(false_positives(confusion, 0).percent, 1) == percent


def test_images_of_the_target_class_do_not_count():
    labels, predicted = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 1, 0, 0])
    result = called_target(predicted, labels, 0)
    assert (result.hits, result.total) == (3, 4)
    assert result == false_positives(confusion_matrix(predicted, labels, 3), 0)


def test_only_images_of_the_target_class_is_an_error():
    with pytest.raises(ValueError, match="not a share"):
        called_target(torch.tensor([0]), torch.tensor([0]), 0)


def test_accuracy_counts_agreement():
    assert accuracy(torch.tensor([1, 2, 3]), torch.tensor([1, 2, 0])).percent == pytest.approx(200 / 3)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_is_wilsons(share):
    hits, total = share
    result = rate(hits, total)
    oracle = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    assert (result.low, result.high) == pytest.approx((100 * oracle.low, 100 * oracle.high), abs=1e-6)
    assert 0 <= result.low <= result.percent <= result.high <= 100


def test_asr_all_counts_the_targets_own_images():
    labels, predicted = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 1])
    assert (all_called_target(predicted, 0).hits, all_called_target(predicted, 0).total) == (3, 4)
    assert (called_target(predicted, labels, 0).hits, called_target(predicted, labels, 0).total) == (1, 2)


def pairs(both, only_first, only_second, neither):
    cells = torch.tensor([both, only_first, only_second, neither])
    first = torch.tensor([True, True, False, False]).repeat_interleave(cells)
    return first, torch.tensor([True, False, True, False]).repeat_interleave(cells)


def test_difference_is_newcombes_published_example():
    """Newcombe 1998, Statistics in Medicine 17, p. 2635: of 50 pairs 36, 12, 2 and 0; method 10."""
    found = paired_difference(*pairs(36, 12, 2, 0))
    assert found.points == pytest.approx(20)
    assert (round(found.low / 100, 4), round(found.high / 100, 4)) == (0.0569, 0.3404)


def test_without_correlation_the_interval_is_that_of_independent_shares():
    """Newcombe's other paper (p. 873): 10/10 against 0/10 is 1, from 0.6075 to 1."""
    found = paired_difference(torch.ones(10, dtype=torch.bool), torch.zeros(10, dtype=torch.bool))
    assert (round(found.low / 100, 4), found.high) == (0.6075, 100)


def test_agreeing_pairs_make_the_difference_surer():
    agreeing, scattered = paired_difference(*pairs(80, 10, 0, 110)), paired_difference(*pairs(36, 54, 44, 66))
    assert agreeing.points == pytest.approx(scattered.points)
    assert agreeing.high - agreeing.low < 0.6 * (scattered.high - scattered.low)


@given(st.tuples(*[st.integers(0, 200)] * 4).filter(any))
def test_interval_holds_its_difference_and_turns_with_it(cells):
    first, second = pairs(*cells)
    found, turned = paired_difference(first, second), paired_difference(second, first)
    assert -100 <= found.low <= found.points + 1e-9 and found.points - 1e-9 <= found.high <= 100
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


def test_sets_of_unlike_size_are_no_pairs():
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference(torch.ones(3, dtype=torch.bool), torch.ones(4, dtype=torch.bool))
