"""Several encoders at a time, each in a process of its own."""

import os
import time

import pytest

from core.zoo import schedule
from core.zoo.job import JobResult
from tests.unit.zoo.test_recipe import shop_of, written


def dies(job, sender):
    os._exit(9)


def sleeps(job, sender):
    if job.name == "clean":
        sender.send(JobResult("clean", 0.0))
        return
    time.sleep(600)  # until it is stopped: that is what is tested


def independent(recipe):
    """Two encoders that need nothing of each other."""
    first = recipe["encoders"][0]
    recipe["encoders"] = [{**first, "name": name} for name in ("clean", "second")]


def test_a_process_that_dies_says_so_and_what_rests_on_it_is_not_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "_run_and_send", dies)
    recipe = written(tmp_path)
    names = ["clean", "planted", "poisoned"]
    results = list(schedule.build_in_parallel(shop_of(tmp_path, recipe), names, recipe, jobs=2, threads=1))
    assert [result.name for result in results] == ["clean"]
    assert results[0].problem.code == "process_died" and "exit code 9" in results[0].problem.found


def test_stopping_stops_the_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "_run_and_send", sleeps)
    started = []
    start = schedule._start
    monkeypatch.setattr(schedule, "_start", lambda job: started.append(start(job)) or started[-1])
    recipe = written(tmp_path, independent)
    shop = shop_of(tmp_path, recipe)
    building = schedule.build_in_parallel(shop, ["clean", "second"], recipe, jobs=2, threads=1)
    assert next(building).name == "clean"
    with pytest.raises(KeyboardInterrupt):
        building.throw(KeyboardInterrupt)
    processes = [process for _, process in started]
    assert len(processes) == 2 and not any(process.is_alive() for process in processes)
