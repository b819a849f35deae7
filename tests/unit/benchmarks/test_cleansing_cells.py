"""Cleansing a zoo's poisoned set, judging it by the truth, and training on what was kept."""

import json
from dataclasses import replace

import pytest
import torch

from core.attacks.poison_truth import PoisonedImage, TrueBox
from core.cleansing.result import Candidate, Window
from core.encoders.fresh import fresh_encoder
from core.encoders.save import save_encoder
from core.encoders.stems import training_card
from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.cells import key
from tests.benchmarks.tables.contents import cleansing, cleansing_ablation
from tests.benchmarks.tables.contents.table import Results
from tests.benchmarks.tables.encoders import read_zoos
from tests.benchmarks.tables.images import ImageLibrary
from tests.benchmarks.tables.poison_cells import Retraining
from tests.benchmarks.tables.poison_work import on_the_patch
from tests.benchmarks.tables.poisoned import read_poisoned_sets
from tests.benchmarks.tables.results import ResultStore
from tests.benchmarks.tables.schedule import with_needs
from tests.benchmarks.tables.work import Workplace, work
from tests.unit.benchmarks.small_zoo import ENVIRONMENT, write_sets, write_zoo

QUICK = {
    "method": "poison_cam", "clusters": 8, "masks": 16, "flip_images": 8, "first_flips": 0, "classifiers": 1,
    "classifier_steps": 2, "classifier_width": 4, "remove_always": True,
}  # fmt: skip
CARD = {"architecture": "torchvision/shufflenet_v2_x0_5", "stem": "fast", "input_size": 32}
RECIPE = {
    "name": "poisoned",
    "data": "cifar10",
    "card": CARD,
    "training": {"method": "simclr", "set": {"epochs": 1, "batch_size": 64}},
    "poisoning": {"method": "ssl-backdoor", "targets": [{"class": "dog", "trigger": "colour-patch:side=6"}]},
    "reference": "clean",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """The small zoo with an encoder whose attack failed: its set counts all the same."""
    folder = tmp_path_factory.mktemp("poisoned")
    zoo = write_zoo(folder / "zoo")
    for name in ("failed", "records"):
        (zoo / name).mkdir()
    card = training_card(CARD["architecture"], 32, stem="fast")
    save_encoder(zoo / "failed" / "poisoned.safetensors", fresh_encoder(card, seed=3), card)
    truth = {"attack": "ssl-backdoor", "trigger": "white.npz", "target_name": "dog", "hard": True}
    (zoo / "truth" / "poisoned.json").write_text(json.dumps(truth))
    record = {"recipe": RECIPE, "accepted": False, "seed": 0}
    (zoo / "records" / "poisoned.json").write_text(json.dumps(record))
    library = ImageLibrary(write_sets(folder / "data"))
    return Bench(read_zoos([zoo]), library, 1, read_poisoned_sets([zoo]))


@pytest.fixture(scope="module")
def place(bench, tmp_path_factory):
    place = Workplace(bench.library, ResultStore(tmp_path_factory.mktemp("out")), "cpu", threads=0)
    place.store.prepare()
    return place


def test_a_failed_attack_left_a_poisoned_set(bench):
    assert [encoder.name for encoder in bench.encoders] == ["clean", "planted"]
    (poisoned,) = bench.poisoned
    assert (poisoned.encoder.name, poisoned.reference.name) == ("poisoned", "clean")
    path, truth = poisoned.files(bench.library)
    assert path.is_file() and len(truth.poisoned) == 20 and truth.poisoned[0].target == "dog"


def test_a_cleansing_is_judged_and_its_keep_list_trained_on(bench, place):
    (poisoned,) = bench.poisoned
    cell = bench.cleansing(poisoned, 0, QUICK)
    document = work(cell, place)
    assert document["problem"] is None and document["images"] == 160 and document["poisoned"] == 20
    assert 0 <= document["recall"] <= 100 and 0 <= document["classifier_recall"] <= 100 and document["reasons"]
    place.store.write(cell, document)
    again = work(Retraining(cell), place)
    assert again["problem"] is None and again["images"] == 160 - document["removed"]
    (numbers,) = again["measured"]["cifar10"]["evaluations"]
    assert 0 <= numbers["asr"] <= 100


def test_the_clean_twin_has_nothing_to_find(bench, place):
    (poisoned,) = bench.poisoned
    document = work(bench.cleansing(poisoned, 0, {**QUICK, "remove_always": False}, twin=True), place)
    assert document["poisoned"] == 0 and document["recall"] is None


def test_cells_are_told_apart(bench):
    (poisoned,) = bench.poisoned
    other = replace(poisoned, seed=1)
    cells = [
        bench.cleansing(poisoned, 0),
        bench.cleansing(poisoned, 1),
        bench.cleansing(poisoned, 0, {"method": "patch_search"}),
        bench.cleansing(poisoned, 0, twin=True),
        bench.cleansing(other, 0),
        Retraining(bench.cleansing(poisoned, 0)),
        bench.measurement(poisoned.reference),
        bench.measurement(poisoned.never_poisoned),
    ]
    assert len({key(cell) for cell in cells}) == len(cells)


def test_a_window_hits_if_it_covers_half_of_the_patch():
    box = TrueBox(top=10, left=10, height=8, width=8)
    poisoned = {"a": PoisonedImage(name="a", target="dog", trigger=0, box=box, sources=[], added=False)}

    def candidate(name, top, left):
        nothing = torch.empty(0)
        return Candidate(1, 0, name, Window(top, left, 8), 0, 0.0, 0.0, 0.0, None, "search", nothing, nothing)

    assert on_the_patch(candidate("a", 10, 10), poisoned)
    assert on_the_patch(candidate("a", 14, 10), poisoned)
    assert not on_the_patch(candidate("a", 14, 11), poisoned)
    assert not on_the_patch(candidate("b", 10, 10), poisoned)


def test_tables_have_a_row_for_every_set(bench, tmp_path):
    store = ResultStore(tmp_path)
    store.prepare()
    tables = (cleansing.TABLE, cleansing.RETRAINING, cleansing_ablation.TABLE)
    numbers = {
        "problem": None, "environment": ENVIRONMENT, "verdict": "poisoned", "images": 160, "poisoned": 20,
        "removed": 21, "top_20": 95.0, "top_50": 90.0, "searched_top_20": 85.0, "searched_top_50": 70.0,
        "recall": 99.0, "precision": 94.0,
        "classifier_recall": 90.0, "classifier_precision": 95.0, "seconds": 2.0, "cpu_seconds": 1.0,
        "measured": {"cifar10": {"fitted_on": 9, "tested_on": 9, "evaluations": [
            {"acc": 50.0, "asr": 7.5, "base": 2.0, "triggered_acc": 40.0}
        ]}},
    }  # fmt: skip
    for cell in with_needs(cell for table in tables for cell in table.cells(bench)):
        store.write(cell, numbers)
        if not isinstance(cell, Retraining) and hasattr(cell, "twin"):
            store.kept(cell).touch()
    for table in tables:
        body = table.render(bench, Results(store))
        assert ("not run" not in body.lower() and "| poisoned |" in body) or "| default |" in body
    assert "clean twin (clean)" in cleansing.TABLE.render(bench, Results(store))
