"""The table of larger images: which encoders it takes, what it shows, and a real audit of a tiny encoder."""

import dataclasses

import pytest
import torch

from core.images.load import load_images
from core.recovery import preconditions
from tests.benchmarks.tables import audit_work
from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.cells import AuditRun, key
from tests.benchmarks.tables.contents import sizes
from tests.benchmarks.tables.contents.registry import TABLES
from tests.benchmarks.tables.contents.table import Results
from tests.benchmarks.tables.encoders import read_zoos
from tests.benchmarks.tables.images import CleanImages, ImageLibrary
from tests.benchmarks.tables.results import ResultStore
from tests.benchmarks.tables.summary import exact_interval
from tests.benchmarks.tables.work import Workplace, work
from tests.unit.attacks.class_folders import labelled_files, pixels_of, write_zip
from tests.unit.benchmarks.small_zoo import pretend, write_sets, write_zoo

SPENT = {
    "search_seconds": 10.0,
    "detection_seconds": 12.0,
    "detection_cpu_seconds": 11.0,
    "passes": 12345,
    "peak_memory_mib": 700.0,
    "memory_budget_mib": 2048.0,
    "threshold": 0.9,
    "forecast": {"search_low": 8.0, "search_high": 20.0, "seconds_low": 8.0, "seconds_high": 1500.0},
    "purification": {"verdict": "clean"},
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """A zoo of 32 pixels and one of 48, each with a clean and a planted encoder."""
    folder = tmp_path_factory.mktemp("bench")
    zoos = [write_zoo(folder / str(side), side) for side in (48, 32)]
    return Bench(read_zoos(zoos), ImageLibrary(write_sets(folder / "data", training=130)), 1)


def filed(bench, store, *, acc=(50.0, 49.5), asr=(92.0, 3.0), said=None):
    """The table's cells as if they had been run; ``said`` maps encoders to other verdicts."""
    store.prepare()
    for cell in (each for whole in sizes.TABLE.cells(bench) for each in (*whole.needs, whole)):
        document = {**pretend(cell, Workplace(bench.library, store)), **SPENT}
        audited = isinstance(cell, AuditRun)
        rates = {"acc": acc[audited], "asr": asr[audited], "base": 2.0, "triggered_acc": 40.0}
        document["measured"]["cifar10"] = {**document["measured"]["cifar10"], "evaluations": [rates]}
        document["verdict"] = (said or {}).get(cell.encoder.name, document["verdict"])
        document["purified"] = document["verdict"] == "backdoored"
        store.write(cell, document)
    return sizes.TABLE.render(bench, Results(store))


def row(body, start):
    (line,) = (line for line in body.splitlines() if line.startswith(f"| {start} |"))
    return [field.strip() for field in line.strip("|").split("|")]


def test_larger_encoders_are_in_this_table_and_in_no_other(bench):
    assert [encoder.side for encoder in bench.encoders] == [32, 32]
    assert [encoder.side for encoder in bench.larger] == [48, 48]
    cells = {table.name: table.cells(bench) for table in TABLES}
    assert {cell.encoder.side for cell in cells.pop("sizes")} == {48}
    assert {cell.encoder.side for others in cells.values() for cell in others} == {32}


def test_one_audit_of_each_encoder_and_budget(bench):
    both = dataclasses.replace(bench, budgets=("quick", "standard"))
    cells = sizes.TABLE.cells(both)
    assert [(cell.encoder.name, cell.parameters["budget"]) for cell in cells] == [
        ("clean", "quick"), ("planted", "quick"), ("clean", "standard"), ("planted", "standard")
    ]  # fmt: skip
    assert len({key(cell) for cell in cells}) == 4
    assert all(cell.images.count == 200 for cell in cells)
    assert [len(cell.needs) for cell in cells] == [0, 1, 0, 1]


def test_a_row_says_what_was_found_what_it_cost_and_what_became_of_it(bench, tmp_path):
    body = filed(bench, ResultStore(tmp_path))
    assert row(body, "planted") == [
        "planted", "48", "BadEncoder, patch", "quick", "backdoored", "clean", "1.000 of 0.900", "10", "8 to 20",
        "12 (11)", "2 (1)", "8 to 1,500", "12,345", "700 of 2,048", "50.0 → 49.5", "90.0 → 1.0",
    ]  # fmt: skip
    assert row(body, "clean")[2:7] == ["-", "quick", "clean", "-", "0.500 of 0.900"]
    assert row(body, "clean")[-2:] == ["-", "-"]


def test_a_planted_encoder_that_was_left_is_shown_as_given(bench, tmp_path):
    body = filed(bench, ResultStore(tmp_path), said={"planted": "clean"})
    assert row(body, "planted")[-2:] == ["50.0", "90.0"]


def test_the_sides_are_summed_up_with_exact_intervals(bench, tmp_path):
    body = filed(bench, ResultStore(tmp_path), said={"clean": "inconclusive"})
    line = ["1 of 1 (2.5 to 100.0)", "0 of 1 (0.0 to 97.5)", "0 of 1 (0.0 to 97.5)", "12", "2"]
    assert row(body, "quick | 48")[2:] == line and row(body, "quick | all")[2:] == line
    low, high = exact_interval(3, 4)
    assert (round(low, 4), round(high, 4)) == (0.1941, 0.9937)


def test_what_was_not_run_or_was_refused_is_said(bench, tmp_path):
    store = ResultStore(tmp_path)
    store.prepare()
    clean, _ = sizes.TABLE.cells(bench)
    refused = {**pretend(clean, Workplace(bench.library, store)), "problem": {"code": "out_of_memory"}}
    store.write(clean, refused)
    body = sizes.TABLE.render(bench, Results(store))
    assert row(body, "clean")[4] == "refused: out_of_memory" and row(body, "planted")[4] == "not run"
    assert row(body, "quick | all")[2:] == ["not run", "not run", "not run", "-", "-"]


def test_the_files_for_an_audit_are_the_images_of_the_other_defences(bench, tmp_path):
    clean = CleanImages("cifar10", 50)
    bench.library.write_for_defence(clean, 3, tmp_path / "images.zip")
    written = load_images(tmp_path / "images.zip", (32, 32))
    assert torch.equal(written.pixels, bench.library.for_defence(clean, (32, 32), 3).pixels)
    assert written.names[0] == "00000.png"


def test_images_of_neither_half_come_first_and_make_another_run(bench, tmp_path):
    data = write_sets(tmp_path / "data", training=20)
    there = dataclasses.replace(bench, library=ImageLibrary(data))
    (before,) = (cell for cell in sizes.TABLE.cells(there) if cell.encoder.backdoors)
    files = labelled_files(15)
    write_zip(data / "cifar10-clean-images.zip", {f"{n:03}.png": file for n, file in enumerate(files.values())})
    (after,) = (cell for cell in sizes.TABLE.cells(there) if cell.encoder.backdoors)
    assert key(before) != key(after) and key(before.before) == key(after.before)
    there.library.write_for_defence(CleanImages("cifar10", 60), 0, tmp_path / "images.zip")
    written = pixels_of(tmp_path / "images.zip").values()
    given = pixels_of(data / "cifar10-clean-images.zip").values()
    assert {each.tobytes() for each in written} == {each.tobytes() for each in given}


@pytest.fixture(scope="module")
def audited(bench, tmp_path_factory):
    """A short search that calls everything backdoored, a purification of two steps, and the search again."""
    place = Workplace(bench.library, ResultStore(tmp_path_factory.mktemp("out")), "cpu", threads=0)
    place.store.prepare()
    parameters = {
        "detection": {"method": "decree", "max_epochs": 1, "threshold": 0.98, "success": 0.5},
        "purification": {"method": "ssldefender", "steps": 2},
    }
    cell = bench.audit(bench.larger[1], 0, parameters, CleanImages("cifar10", 50))
    place.store.write(cell.before, work(cell.before, place))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            preconditions, "COLLAPSED", 1.0
        )  # an untrained encoder tells images of noise apart hardly at all
        return work(cell, place), place.store.read(cell.before)


def test_an_audit_tells_what_it_cost_and_was_forecast(audited):
    document, _ = audited
    assert document["problem"] is None and document["verdict"] == "backdoored" and document["images"] == 50
    assert 0 < document["search_seconds"] <= document["detection_seconds"] < document["seconds"]
    assert 0 < document["detection_passes"] < document["passes"]
    assert 0 < document["detection_cpu_seconds"] < document["cpu_seconds"]
    forecast = document["forecast"]
    assert 0 < forecast["search_low"] <= forecast["search_high"] <= forecast["seconds_high"]
    assert document["peak_memory_mib"] >= 0 and document["memory_budget_mib"] >= 64


def test_what_an_audit_delivers_is_measured_with_the_same_target(audited):
    document, before = audited
    assert document["purified"] and document["purification"]["steps"] == 2
    assert document["measured"]["cifar10"]["targets"] == before["measured"]["cifar10"]["targets"] == ["dog"]
    assert 0 <= document["measured"]["cifar10"]["evaluations"][0]["asr"] <= 100


def test_an_audit_is_not_told_the_name(bench, monkeypatch):
    requests = []
    monkeypatch.setattr(audit_work, "run_audit", lambda request, *others: requests.append(request) or 1 / 0)
    cell = bench.audit(bench.larger[0], 0, {"budget": "quick"}, CleanImages("cifar10", 50))
    with pytest.raises(ZeroDivisionError):
        work(cell, Workplace(bench.library, ResultStore(bench.library.folder), "cpu", threads=0))
    assert requests[0].encoder_name == "encoder.safetensors" and requests[0].images.name == "images.zip"
