"""Positions in the drawings keep the order of the numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.report.charts import HEIGHT, WIDTH, gauge, loss_curve, thinned
from core.report.model import HypothesisRow

finite = st.floats(-100, 100, allow_nan=False)


@given(score=finite, threshold=finite, restarts=st.lists(finite, max_size=5))
def test_marks_lie_on_the_axis_in_the_order_of_their_values(
    score: float, threshold: float, restarts: list[float]
) -> None:
    drawn = gauge(HypothesisRow(name="x", score=score, threshold=threshold, scores=restarts))
    pairs = sorted(
        [(score, drawn.score_at), (threshold, drawn.threshold_at), *zip(restarts, drawn.restarts_at, strict=True)]
    )
    positions = [at for _, at in pairs]
    assert positions == sorted(positions)
    assert positions[0] >= 0
    assert positions[-1] <= 100
    assert drawn.exceeded == (score >= threshold)


def test_similarities_near_one_are_told_apart() -> None:
    row = HypothesisRow(name="x", score=0.999, threshold=0.975, scores=[0.9])
    drawn = gauge(row, floor=0.4)
    assert drawn.towards_one
    assert drawn.floor_at is not None
    assert drawn.score_at - drawn.threshold_at > 25
    assert drawn.floor_at < drawn.restarts_at[0] < drawn.threshold_at


def test_axes_of_before_and_after_agree() -> None:
    before = HypothesisRow(name="x", score=0.99, threshold=0.9, scores=[0.99])
    after = HypothesisRow(name="x", score=0.5, threshold=0.9, scores=[0.5])
    assert gauge(before, beside=after).threshold_at == gauge(after, beside=before).threshold_at


def test_loss_curve_runs_from_corner_to_corner() -> None:
    curve = loss_curve([100.0, 10.0, 1.0], 300)
    assert curve is not None
    assert curve.points == f"0.0,0.0 {WIDTH / 2},{HEIGHT / 2} {WIDTH},{HEIGHT}"


def test_loss_curve_needs_two_points_and_takes_negative_losses() -> None:
    assert loss_curve([1.0], 1) is None
    curve = loss_curve([1.0, -1.0], None)
    assert curve is not None
    assert curve.points == f"0.0,0.0 {WIDTH},{HEIGHT}"


@given(st.lists(finite, min_size=1, max_size=1000))
def test_thinning_keeps_order_and_ends(values: list[float]) -> None:
    kept = thinned(values, 50)
    assert len(kept) == min(50, len(values))
    assert (kept[0], kept[-1]) == (values[0], values[-1])
