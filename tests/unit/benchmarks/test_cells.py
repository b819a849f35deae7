"""What a cell is told apart by, what a defence gets to see, and a zoo as the tables read it."""

import ast
import copy
import dataclasses
from pathlib import Path

import pytest
import torch

from core.errors import UsageError
from core.recovery.detection import Detection, HypothesisResult, RecoveredTrigger
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.types import Verdict
from tests.benchmarks.tables import defence
from tests.benchmarks.tables.cells import key
from tests.benchmarks.tables.encoders import attack_key, trigger_kind
from tests.benchmarks.tables.images import CleanImages, _labelled
from tests.unit.benchmarks.small_zoo import small_bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return small_bench(tmp_path_factory.mktemp("bench"))


def test_a_cell_is_told_apart_by_all_that_decides_it(bench):
    encoder = bench.backdoored[0]
    cells = [
        bench.detection(encoder, 0),
        bench.detection(encoder, 1),
        bench.detection(bench.encoders[0], 0),
        bench.detection(encoder, 0, {"method": "decree"}),
        bench.detection(encoder, 0, {"method": "decree", "threshold": 0.1}),
        bench.detection(encoder, 0, images=CleanImages("cifar10", 3)),
        bench.purification(encoder, 0),
        bench.purification(encoder, 0, verified=True),
        bench.purification(encoder, 0, {"method": "ssldefender", "batch_size": 32}),
        bench.purification(encoder, 0, detection={"method": "decree"}),
        bench.measurement(encoder),
    ]
    assert len({key(cell) for cell in cells}) == len(cells)


def test_a_default_spelt_out_is_the_same_run(bench):
    encoder = bench.backdoored[0]
    spelt = bench.purification(encoder, 0, {"method": "ssldefender", "batch_size": 128})
    assert key(spelt) == key(bench.purification(encoder, 0))
    moved = dataclasses.replace(encoder, weights=Path("elsewhere.safetensors"), name="other")
    assert key(bench.detection(moved, 0)) == key(bench.detection(encoder, 0))


def test_a_defence_never_gets_what_probes_see(bench):
    library = bench.library
    fit, test = library.to_fit("cifar10", (32, 32)), library.to_test("cifar10", (32, 32))
    given = library.for_defence(CleanImages("cifar10", 10), (32, 32), 0)
    assert len(fit.labels) == 4 * 36 and len(test.labels) == 4 * 30 and len(given) == 10
    seen = {image.numpy().tobytes() for image in fit.images.pixels}
    assert not seen & {image.numpy().tobytes() for image in given.pixels}
    assert given.names == tuple(f"{number:05d}" for number in range(10))
    again = library.for_defence(CleanImages("cifar10", 10), (32, 32), 1)
    assert not torch.equal(given.pixels, again.pixels)
    with pytest.raises(UsageError, match="set aside"):
        library.for_defence(CleanImages("cifar10", 17), (32, 32), 0)


def test_decoded_images_are_kept_and_the_same(bench, tmp_path):
    cached = dataclasses.replace(bench.library, cache=tmp_path)
    plain = bench.library.to_fit("cifar10", (32, 32))
    for _ in range(2):
        _labelled.cache_clear()
        again = cached.to_fit("cifar10", (32, 32))
        assert torch.equal(again.images.pixels, plain.images.pixels) and torch.equal(again.labels, plain.labels)
        assert (again.images.digest, again.classes) == (plain.images.digest, plain.classes)
    assert len(list(tmp_path.iterdir())) == 1


def test_the_defences_import_nothing_of_the_truth():
    tree = ast.parse(Path(defence.__file__).read_text())
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    forbidden = ("core.attacks", "core.evaluation", "core.images.labelled", "core.zoo", "tests")
    assert modules and not [name for name in modules if name.startswith(forbidden)]


def test_a_detection_comes_back_as_it_was(tmp_path):
    triggers = (
        RecoveredTrigger("mask", MaskedTrigger(torch.rand(1, 4, 4), torch.rand(3, 4, 4)), 0.9, 0.1, "pixels"),
        RecoveredTrigger("add", AdditiveTrigger(torch.rand(3, 4, 4)), 0.8, 0.05, "change"),
    )
    rows = (HypothesisResult("mask", 0.9, 0.8, (0.9, 0.7)),)
    found = Detection("m", Verdict.BACKDOORED, 0.9, 0.8, ("why",), rows, triggers, 0.4, ("what",))
    defence.save_detection(tmp_path / "found.safetensors", found)
    back = defence.read_detection(tmp_path / "found.safetensors")
    assert dataclasses.replace(back, triggers=()) == dataclasses.replace(found, triggers=())
    for mine, theirs in zip(back.triggers, triggers, strict=True):
        assert torch.equal(next(iter(vars(mine.trigger).values())), next(iter(vars(theirs.trigger).values())))
        assert mine.similarity == theirs.similarity and type(mine.trigger) is type(theirs.trigger)


def test_a_zoo_is_read_with_its_truth(bench):
    clean, planted = bench.encoders
    assert (clean.name, clean.attack, clean.backdoors) == ("clean", None, ())
    assert (planted.attack, planted.trigger, planted.backdoors[0].target) == ("bad-encoder", "patch", "dog")
    assert planted.architecture == "shufflenet_v2_x0_5"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("none (clean)", None),
        ("bad-encoder", "bad-encoder"),
        ("SSL-Backdoor poisoned pre-training (50% of airplane images)", "ssl-backdoor"),
        ("something new", "something new"),
    ],
)
def test_attacks_are_known_by_their_key_or_in_a_sentence(said, meant):
    assert attack_key(said) == meant


@pytest.mark.parametrize("side", [32, 64, 224])
def test_kinds_of_trigger_are_told_apart(tmp_path, side):
    from core.attacks.trigger_spec import build_trigger, parse_trigger
    from core.triggers import save_trigger

    kinds = {"spectral": "spectral", "noise": "noise", "blended": "blended", "colour-patch:side=8": "patch"}
    for spec, kind in kinds.items():
        save_trigger(tmp_path / "trigger.npz", build_trigger(parse_trigger(spec), (side, side)))
        assert trigger_kind(tmp_path / "trigger.npz") == kind


def test_results_of_a_cell_do_not_depend_on_its_values_object(bench):
    values = {"method": "ssldefender"}
    cell = bench.detection(bench.encoders[0], 0, values)
    assert key(copy.deepcopy(cell)) == key(cell)
