"""Several draws of the labels as one result."""

from dataclasses import replace

import pytest

from core.evaluation.draws import mean_result
from core.evaluation.rates import Difference, rate
from core.evaluation.results import ProbeResult


def result(hits, points=None):
    net = None if points is None else Difference(points, points - 2, points + 2)
    return ProbeResult("linear-1pct", 20, rate(hits, 1000), net=net)


def test_counts_are_summed_and_shares_averaged():
    mean = mean_result([result(300), result(400), result(500)])
    assert (mean.acc.hits, mean.acc.total, mean.acc.percent, mean.draws) == (1200, 3000, 40.0, 3)
    assert mean.labels_used == 20
    assert mean.asr is None and mean.net is None


def test_interval_holds_both_the_draws_and_the_test_images():
    # Draws at 30, 40, 50 %: t(2) = 4.303, sd = 10, so 24.84 from the draws alone; Wilson's half-width is about 3.
    spread = mean_result([result(300), result(400), result(500)]).acc
    assert spread.percent - spread.low == pytest.approx((24.84**2 + 3.0**2) ** 0.5, abs=0.1)
    # Draws that agree leave the interval of the test images, which they share: three of them do not shrink it.
    same = mean_result([result(400)] * 3).acc
    alone = result(400).acc
    assert (same.low, same.high) == pytest.approx((alone.low, alone.high), abs=0.05)


def test_differences_are_averaged_and_stay_within_the_possible():
    mean = mean_result([result(1, 99.0), result(1, -60.0)]).net
    assert mean.points == pytest.approx(19.5)
    assert (mean.low, mean.high) == (-100.0, 100.0)


def test_one_draw_is_left_alone_and_none_is_refused():
    one = result(10, 5.0)
    assert mean_result([one]) is one
    assert replace(one, draws=1) == one
    with pytest.raises(ValueError, match="no draws"):
        mean_result([])
