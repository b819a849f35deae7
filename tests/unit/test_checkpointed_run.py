"""Stages that survive a kill on the command line."""

import pytest
import torch

from core.checkpointed_run import CheckpointedRun
from core.run import QuietRun


class Counter:
    def __init__(self):
        self.total = torch.zeros(1)

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


def count(run, until, stop=None, name="count up"):
    counter, seen = Counter(), []
    for step in run.steps(name, until, state=counter):
        if step == stop:
            raise KeyboardInterrupt
        seen.append(step)
        counter.total += step
    return float(counter.total), seen


def test_an_interrupted_stage_goes_on_where_it_was(tmp_path):
    resumed = []
    run = CheckpointedRun(QuietRun(), tmp_path, every=0.0, on_resume=lambda name, step: resumed.append((name, step)))
    with pytest.raises(KeyboardInterrupt):
        count(run, 10, stop=6)
    total, seen = count(run, 10)
    assert total == sum(range(10)) and seen == [6, 7, 8, 9]
    assert resumed == [("count up", 6)]


def test_a_finished_stage_yields_no_step_and_keeps_its_result(tmp_path):
    run = CheckpointedRun(QuietRun(), tmp_path, every=1e9)
    assert count(run, 5)[0] == 10
    assert count(run, 5) == (10.0, [])


def test_stages_do_not_meet(tmp_path):
    run = CheckpointedRun(QuietRun(), tmp_path, every=0.0)
    count(run, 3, name="mlp: fit")
    assert count(run, 3, name="fit")[1] == [0, 1, 2]


def test_without_a_state_nothing_is_written(tmp_path):
    run = CheckpointedRun(QuietRun(), tmp_path / "none", every=0.0)
    assert list(run.steps("look", 3)) == [0, 1, 2]
    assert not (tmp_path / "none").exists()
