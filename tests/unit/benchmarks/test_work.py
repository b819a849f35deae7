"""Real cells on the tiny zoo: what is measured, and that purifications start from the detection that is there."""

import pytest

from core.recovery.detection import Detection, RecoveredTrigger
from core.triggers import load_trigger
from core.types import Verdict
from tests.benchmarks.tables import defence
from tests.benchmarks.tables.images import CleanImages
from tests.benchmarks.tables.results import ResultStore
from tests.benchmarks.tables.work import Workplace, work
from tests.unit.benchmarks.small_zoo import pretend, small_bench

QUICK = {"method": "decree", "max_epochs": 1}
FEW = CleanImages("cifar10", 12)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return small_bench(tmp_path_factory.mktemp("bench"), seeds=1)


@pytest.fixture(scope="module")
def place(bench, tmp_path_factory):
    """With the planted encoder measured as it was given."""
    place = Workplace(bench.library, ResultStore(tmp_path_factory.mktemp("out")), "cpu", threads=0)
    place.store.prepare()
    cell = bench.measurement(bench.backdoored[0])
    place.store.write(cell, work(cell, place))
    return place


def found(bench, place, verdict, triggers=()):
    """A detection that ended so, filed as if it had been run."""
    cell = bench.detection(bench.backdoored[0], 0, QUICK, FEW)
    place.store.write(cell, {**pretend(cell, place), "verdict": str(verdict)})
    defence.save_detection(place.store.kept(cell), Detection("decree", verdict, 0.9, 0.8, (), (), triggers))


def purify(bench, place, values, **others):
    cell = bench.purification(bench.backdoored[0], 0, values, detection=QUICK, images=FEW, **others)
    return work(cell, place)


def white(bench):
    trigger = load_trigger(bench.backdoored[0].backdoors[0].trigger)
    return (RecoveredTrigger("mask", trigger, 0.9, trigger.area(), "pixels"),)


def test_an_encoder_is_measured_with_its_own_trigger(bench, place):
    part = place.store.read(bench.measurement(bench.backdoored[0]))["measured"]["cifar10"]
    (numbers,) = part["evaluations"]
    assert part["targets"] == ["dog"] and part["fitted_on"] == 4 * 36 and part["tested_on"] == 4 * 30
    assert {probe["name"] for probe in numbers["probes"]} == {"linear", "linear-1pct"}
    assert all(0 <= numbers[name] <= 100 for name in ("acc", "asr", "base", "triggered_acc"))


def test_a_detection_tells_its_cost_and_is_kept(bench, place):
    cell = bench.detection(bench.encoders[0], 0, QUICK, FEW)
    document = work(cell, place)
    assert document["problem"] is None and document["images"] == 12 and document["verdict"] in list(Verdict)
    assert document["cpu_seconds"] > 0 and document["peak_memory_mib"] > 0
    assert str(defence.read_detection(place.store.kept(cell)).verdict) == document["verdict"]


def test_what_was_found_is_unlearnt_once(bench, place):
    found(bench, place, Verdict.BACKDOORED, white(bench))
    document = purify(bench, place, {"method": "ssldefender", "steps": 2})
    assert document["purified"] and document["steps"] == 2 and document["verification"] is None
    assert [stage["name"] for stage in document["stages"] if stage["steps"]] == ["unlearn"]
    assert document["measured"]["cifar10"]["targets"] == ["dog"]


def test_the_command_starts_from_the_detection_that_was_made(bench, place):
    found(bench, place, Verdict.BACKDOORED, white(bench))
    document = purify(bench, place, {"method": "ssldefender", "steps": 2}, verified=True)
    names = [stage["name"] for stage in document["stages"] if stage["steps"]]
    assert names[0] == "unlearn" and "shrink mask" not in names
    assert document["purified"] and document["verification"]["verdict"] in list(Verdict)


def test_where_nothing_was_found_only_methods_without_triggers_purify(bench, place):
    found(bench, place, Verdict.CLEAN)
    left = purify(bench, place, {"method": "ssldefender", "steps": 2})
    assert not left["purified"]
    assert left["measured"] == place.store.read(bench.measurement(bench.backdoored[0]))["measured"]
    assert purify(bench, place, {"method": "fine-tuning", "steps": 2})["purified"]


def test_a_fault_with_a_message_is_a_result(bench, place):
    cell = bench.detection(bench.encoders[0], 0, QUICK, CleanImages("cifar10", 1000))
    document = work(cell, place)
    assert document["problem"]["code"] == "too_few_images" and "verdict" not in document


def test_a_defence_is_not_told_the_name(bench, place, monkeypatch):
    names = []
    monkeypatch.setattr(
        defence, "look", lambda encoder, images, *others, **more: names.append((encoder.name, images.names[0])) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        work(bench.detection(bench.backdoored[0], 0, QUICK, FEW), place)
    assert names == [("encoder", "00000")]
