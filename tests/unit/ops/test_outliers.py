"""Anomaly indices by hand, and against the standard deviation of a normal sample."""

import pytest
import torch

from core.ops.outliers import anomaly_indices


def test_by_hand() -> None:
    # Median 3, absolute deviations 2, 1, 0, 1, 97: their median is 1.
    found = anomaly_indices(torch.tensor([1.0, 2, 3, 4, 100]))
    expected = torch.tensor([2.0, 1, 0, -1, -97], dtype=torch.float64) / 1.4826
    torch.testing.assert_close(found, expected)


def test_on_a_normal_sample_it_is_the_z_score() -> None:
    sample = 5 + 2 * torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    assert float(anomaly_indices(torch.cat([sample, torch.tensor([1.0])]))[-1]) == pytest.approx(2.0, abs=0.02)


def test_equal_values_do_not_stand_out_and_others_do_infinitely() -> None:
    found = anomaly_indices(torch.tensor([1.0, 1, 1, 1, 0.5]))
    assert found[:4].tolist() == [0, 0, 0, 0]
    assert float(found[4]) == float("inf")
