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
    time.sleep(600)


def independent(recipe):
    """Three encoders that need nothing of each other."""
    first = recipe["encoders"][0]
    recipe["encoders"] = [{**first, "name": name} for name in ("clean", "second", "third")]


def test_a_process_that_dies_costs_its_own_encoder_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "_run_and_send", dies)
    recipe = written(tmp_path, independent)
    shop = shop_of(tmp_path, recipe)
    names = ["clean", "second", "third"]
    results = list(schedule.build_in_parallel(shop, names, recipe, jobs=2, threads=1))
    assert sorted(result.name for result in results) == names
    assert all("exit code 9" in result.problem.found for result in results)


def test_what_rests_on_a_dead_encoder_is_not_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "_run_and_send", dies)
    recipe = written(tmp_path)
    shop = shop_of(tmp_path, recipe)
    results = list(schedule.build_in_parallel(shop, ["clean", "planted", "poisoned"], recipe, jobs=2, threads=1))
    assert [result.name for result in results] == ["clean"]


def test_stopping_stops_the_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(schedule, "_run_and_send", sleeps)
    started = []
    start = schedule._start
    monkeypatch.setattr(schedule, "_start", lambda job: started.append(start(job)) or started[-1])
    recipe = written(tmp_path, independent)
    building = schedule.build_in_parallel(
        shop_of(tmp_path, recipe), ["clean", "second", "third"], recipe, jobs=2, threads=1
    )
    assert next(building).name == "clean"
    with pytest.raises(KeyboardInterrupt):
        building.throw(KeyboardInterrupt)
    processes = [process for _, process in started]
    assert len(processes) >= 2 and not any(process.is_alive() for process in processes)
