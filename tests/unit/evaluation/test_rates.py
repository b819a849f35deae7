"""Rates against the published tables and against SciPy."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from core.evaluation.rates import accuracy, called_target, confusion_matrix, false_positives, rate


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
