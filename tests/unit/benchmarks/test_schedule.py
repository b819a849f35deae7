"""Cells in processes of their own: each once, in the order of need, resumed, ended with the bench."""

import os
import time
from contextlib import closing

import psutil
import pytest

from tests.benchmarks.tables.results import ResultStore
from tests.benchmarks.tables.schedule import missing, run_cells, with_needs
from tests.benchmarks.tables.work import Workplace
from tests.unit.benchmarks.small_zoo import die, never_end, pretend, small_bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return small_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def bench_and_place(tmp_path, bench):
    """The bench, with an empty place of its own for results."""
    return bench, Workplace(bench.library, ResultStore(tmp_path), "cpu", 1, "abc1234")


def test_needs_come_first_and_once(bench_and_place):
    bench, _ = bench_and_place
    encoder = bench.backdoored[0]
    cells = [bench.purification(encoder, 0), bench.purification(encoder, 0, {"method": "fine-tuning"})]
    titles = [cell.title.split()[0] for cell in with_needs(cells)]
    assert titles == ["detect", "measure", "purify", "purify"]


def test_every_cell_has_a_process_and_is_run_once(bench_and_place):
    bench, place = bench_and_place
    cells = [bench.purification(bench.backdoored[0], 0)]
    ended = list(run_cells(cells, place, pretend, jobs=2))
    assert [each.failure for each in ended] == [None] * 3
    processes = {place.store.read(cell)["process"] for cell in with_needs(cells)}
    assert len(processes) == 3 and os.getpid() not in processes
    assert not missing(cells, place.store) and not list(run_cells(cells, place, die, jobs=2))


def test_what_was_lost_is_run_again_and_nothing_else(bench_and_place):
    bench, place = bench_and_place
    place.store.prepare()
    cells = [bench.detection(encoder, 0) for encoder in bench.encoders]
    assert missing(cells, place.store) == cells
    for cell in cells:
        place.store.write(cell, pretend(cell, place))
    assert not missing(cells, place.store)
    place.store.path(cells[1]).write_text("{")
    assert missing(cells, place.store) == [cells[1]]
    place.store.kept(cells[0]).unlink()
    assert missing(cells, place.store) == cells


def test_a_process_that_dies_costs_its_cell_and_those_that_start_from_it(bench_and_place):
    bench, place = bench_and_place
    cells = [bench.purification(bench.backdoored[0], 0)]
    ended = list(run_cells(cells, place, die, jobs=2))
    assert sorted(each.cell.title.split()[0] for each in ended) == ["detect", "measure"]
    assert all("exit code 9" in each.failure for each in ended)
    assert len(missing(cells, place.store)) == 3


def test_after_the_budget_nothing_is_begun(bench_and_place):
    bench, place = bench_and_place
    assert not list(run_cells([bench.detection(bench.encoders[0], 0)], place, pretend, jobs=1, budget_seconds=0))


def test_an_interrupt_ends_the_processes(bench_and_place, monkeypatch):
    bench, place = bench_and_place

    def interrupted(receivers):
        while not list(place.store.folder.glob("process-*")):
            time.sleep(0.1)
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.benchmarks.tables.schedule.wait", interrupted)
    with closing(run_cells([bench.detection(bench.encoders[0], 0)], place, never_end, jobs=1)) as ended:
        with pytest.raises(KeyboardInterrupt):
            next(ended)
    (mark,) = place.store.folder.glob("process-*")
    assert not psutil.pid_exists(int(mark.name.partition("-")[2]))
