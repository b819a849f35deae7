"""Losses are fetched late, none is lost, and one that ran away is told with its step."""

import pytest
import torch

from core.checkpoint import load_checkpoint, save_checkpoint
from core.errors import AuditFailed
from core.training.loss_history import LossHistory


def history_of(*losses: float) -> LossHistory:
    history = LossHistory()
    for step, loss in enumerate(losses):
        history.add(torch.tensor(loss, requires_grad=True), step)
    return history


def test_losses_are_there_once_fetched() -> None:
    history = history_of(3.0, 2.0)
    assert history.values == []
    assert history.fetch() is None and history.values == [3.0, 2.0]
    history.add(torch.tensor(1.0), 2)
    history.require_finite()
    assert history.values == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_the_first_that_ran_away_is_told_and_what_follows_forgotten(odd: float) -> None:
    history = history_of(3.0, odd, 5.0, float("nan"))
    fault = history.fetch()
    assert fault is not None and "at step 1" in str(fault)
    assert history.values == [3.0] and history.fetch() is None
    with pytest.raises(AuditFailed, match="at step 1"):
        history_of(3.0, odd).require_finite()


def test_what_was_not_fetched_outlives_a_crash(tmp_path) -> None:
    history = history_of(3.0)
    history.fetch()
    history.add(torch.tensor(2.0), 1)
    save_checkpoint(tmp_path / "state", history.state_dict())
    resumed = LossHistory()
    resumed.load_state_dict(load_checkpoint(tmp_path / "state"))
    resumed.add(torch.tensor(1.0), 2)
    assert resumed.fetch() is None and resumed.values == [3.0, 2.0, 1.0]
