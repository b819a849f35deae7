"""Time that outlives its process."""

import time

from core.training import stopwatch
from core.training.stopwatch import Stopwatch


def test_a_resumed_watch_goes_on_where_the_state_was_taken(monkeypatch):
    clock = {"now": 100.0, "cpu": 7.0}
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(stopwatch.time, "process_time", lambda: clock["cpu"])
    first = Stopwatch()
    clock.update(now=110.0, cpu=12.0)
    state = first.state_dict()
    # Another process, another day: both clocks start elsewhere, and what lies between does not count.
    clock.update(now=5000.0, cpu=1.0)
    second = Stopwatch()
    clock.update(now=5002.0, cpu=1.5)
    second.load_state_dict(state)
    clock.update(now=5006.0, cpu=4.5)
    assert second.spent() == stopwatch.Spent(14.0, 8.0)


def test_it_measures_real_time():
    watch = Stopwatch()
    ends = time.process_time() + 0.05
    while time.process_time() < ends:
        pass
    spent = watch.spent()
    assert spent.cpu_seconds >= 0.05 and spent.seconds >= spent.cpu_seconds * 0.5
