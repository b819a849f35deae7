"""The verdict on a ranked list of windows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from core.cleansing.result import Candidate, Window
from core.cleansing.verdict import judge
from core.types import Verdict

FLIPS = 320


def windows(flips: Sequence[float], group: int | None = None) -> list[Candidate]:
    """One candidate for each entry of ``flips``, all in ``group``."""
    nothing = torch.empty(0)
    return [
        Candidate(rank, rank, f"{rank}.png", Window(0, 0, 8), 0, moved, moved, moved, group, "search", nothing, nothing)
        for rank, moved in enumerate(flips, 1)
    ]


def test_the_same_pixels_that_act_are_poison() -> None:
    judgement = judge([*windows([5.0] * 5, group=3), *windows([2.0] * 95)], FLIPS)
    assert (judgement.verdict, judgement.triggers) == (Verdict.POISONED, (3,))
    assert "5 of the 100 best windows show the same 8x8 pixels" in judgement.reasons[0]


def test_what_acts_is_not_outvoted_by_what_does_not() -> None:
    """An encoder that has half learnt a patch: few of the many windows that show it act."""
    judgement = judge(windows([4.0] * 5 + [1.0] * 29, group=0), FLIPS)
    assert judgement.verdict is Verdict.POISONED
    assert "34 of the 34 best windows" in judgement.reasons[0] and "5 of them" in judgement.reasons[0]


@pytest.mark.parametrize("flips", [[3.0] * 50, [5.0] * 4 + [3.0]])
def test_the_same_pixels_that_do_not_act_are_doubtful(flips: list[float]) -> None:
    judgement = judge(windows(flips, group=0), FLIPS)
    assert (judgement.verdict, judgement.triggers) == (Verdict.INCONCLUSIVE, ())
    assert "hardly learnt" in judgement.reasons[0]


@pytest.mark.parametrize(("flips", "group"), [([5.0] * 4, 0), ([5.0] * 50, None)])
def test_too_few_and_not_the_same_are_clean(flips: list[float], group: int | None) -> None:
    assert judge(windows(flips, group), FLIPS).verdict is Verdict.CLEAN


def test_one_strong_window_is_natural_and_five_are_doubtful() -> None:
    natural = judge(windows([115.0, 62.0, 30.0, 28.0, 24.0]), FLIPS)
    assert natural.verdict is Verdict.CLEAN and "115 of 320" in natural.reasons[0]
    assert judge(windows([80.0] * 4), FLIPS).verdict is Verdict.CLEAN
    doubtful = judge(windows([80.0] * 5), FLIPS)
    assert doubtful.verdict is Verdict.INCONCLUSIVE and "5 windows move 80 of 320" in doubtful.reasons[0]


def test_nothing_at_all_is_clean() -> None:
    assert judge([], FLIPS).verdict is Verdict.CLEAN
