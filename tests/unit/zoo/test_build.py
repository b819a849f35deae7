"""A zoo built end to end, of the smallest encoders there are."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

import core.evaluation.acceptance as acceptance
import core.zoo.build as build_module
import core.zoo.measure as measure
from core.attacks.trigger_spec import build_trigger, parse_trigger
from core.run import QuietRun
from core.triggers import load_trigger
from core.zoo.index import table, write_index, write_table
from core.zoo.recipe import load_recipe
from core.zoo.record import read_record
from core.zoo.schedule import build_in_order, unbuilt
from core.zoo.workshop import Workshop
from tests.unit.zoo.test_recipe import shop_of, written

NAMES = ["clean", "planted", "poisoned"]


def build(shop, names):
    return {result.name: result for result in build_in_order(shop, names, lambda name: QuietRun())}


def few_steps(recipe):
    recipe["encoders"][1]["backdoor"]["set"] = {"steps": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    shop = shop_of(folder, written(folder, few_steps))
    # Two steps make no backdoor: the floors are lowered for those who look at what is filed where.
    patch = pytest.MonkeyPatch()
    patch.setattr(acceptance, "SMALLEST_ASR", -1.0)
    patch.setattr(acceptance, "LARGEST_ACC_LOSS", 100.0)
    results = build(shop, NAMES)
    patch.undo()
    return shop, results


def test_each_encoder_is_filed_with_its_truth(built):
    shop, results = built
    assert all(result.problem is None for result in results.values())
    assert shop.weights("clean").is_file() and shop.weights("planted").is_file()
    truth = json.loads((shop.output / "truth" / "planted.json").read_text())
    assert (truth["attack"], truth["target_name"], truth["trigger"]) == ("bad-encoder", "cat", "planted.npz")
    assert truth["hard"] is False
    attack = json.loads((shop.output / "records" / "planted.json").read_text())["attack"]
    assert attack["method"] == "bad-encoder" and attack["reference_images"][0].startswith("cat/")
    clean = json.loads((shop.output / "truth" / "clean.json").read_text())
    assert clean["trigger"] is None


def test_a_planted_patch_is_tested_where_it_was_planted_and_a_poisoned_one_inside(built):
    shop, _ = built
    _, planted, poisoned = shop.recipe.encoders
    size = (32, 32)
    for entry, places in ((planted, planted.backdoor.trigger), (poisoned, None)):
        for _, spec in measure.known_backdoors(entry):
            assert spec.is_patch and spec.top is None
            tested = measure.trigger_for_test(entry, spec, size)
            corner = build_trigger(spec, size)
            assert torch.equal(tested.mask, corner.mask) is (places is not None)
    written = load_trigger(shop.output / "truth" / "planted.npz")
    assert torch.equal(written.mask, build_trigger(parse_trigger(planted.backdoor.trigger), size).mask)


def test_an_attack_below_its_floor_is_not_filed_as_backdoored(built):
    shop, results = built
    assert results["poisoned"].record.accepted is False
    assert "below the floor" in results["poisoned"].record.reason
    assert not shop.weights("poisoned").exists() and shop.weights("poisoned", accepted=False).is_file()


def test_the_record_says_how_it_was_made(built):
    shop, _ = built
    record = read_record(shop.record_path("clean"))
    assert record.steps == 10 and record.seed == 3 and record.epochs == 1
    assert record.curve[-1][0] == 10 and record.curve[-1][2] is not None
    assert {"torch", "lightly"} <= set(record.versions)
    few = next(probe for probe in record.evaluation["probes"] if probe["name"] == "linear-1pct")
    assert few["labels_used"] == 4


def test_what_is_built_is_not_built_again_until_its_recipe_changes(built, tmp_path):
    shop, _ = built
    assert unbuilt(shop) == []

    def change(recipe):
        few_steps(recipe)
        recipe["encoders"][0]["seed"] = 4

    changed = Workshop(load_recipe(written(tmp_path, change)), shop.data, shop.output, shop.device)
    assert unbuilt(changed) == NAMES
    shop.weights("planted").rename(tmp_path / "away")
    assert unbuilt(shop) == ["planted"]
    (tmp_path / "away").rename(shop.weights("planted"))


def test_what_is_measured_otherwise_is_not_trained_again(built, tmp_path, monkeypatch):
    shop, _ = built
    copy = Workshop(shop.recipe, shop.data, tmp_path / "copy", shop.device)
    shutil.copytree(shop.output, copy.output)
    assert unbuilt(copy) == []
    monkeypatch.setattr(measure, "FORM", measure.FORM + 1)
    monkeypatch.setattr(acceptance, "SMALLEST_NET", -100.0)
    assert unbuilt(copy) == NAMES

    def untouchable(*_, **__):
        raise AssertionError("trained or planted again")

    monkeypatch.setattr(build_module, "pretrain", untouchable)
    monkeypatch.setattr(build_module, "find_backdooring", untouchable)
    results = build(copy, NAMES)
    assert results["poisoned"].record.accepted is True
    assert copy.weights("poisoned").is_file() and not copy.weights("poisoned", accepted=False).exists()
    # Now the planted one is held against the real floors, which its two steps cannot reach.
    assert results["planted"].record.accepted is False
    assert copy.weights("planted", accepted=False).is_file() and not copy.weights("planted").exists()
    assert unbuilt(copy) == []


def test_a_backdoor_is_planted_again_when_its_base_is_another(built, tmp_path):
    shop, _ = built
    copy = Workshop(shop.recipe, shop.data, tmp_path / "copy", shop.device)
    shutil.copytree(shop.output, copy.output)
    base = read_record(copy.record_path("clean"))
    replace(base, sha256="0" * 64).write(copy.record_path("clean"))
    assert build_module.made_record(copy, copy.recipe.encoders[1]) is None
    assert build_module.made_record(copy, copy.recipe.encoders[0]) is not None


def test_the_same_recipe_gives_the_same_weights(built, tmp_path):
    shop, results = built
    again = Workshop(shop.recipe, shop.data, tmp_path, shop.device)
    assert build(again, ["clean"])["clean"].record.sha256 == results["clean"].record.sha256


def test_index_and_table_name_every_encoder(built):
    shop, _ = built
    write_index(shop)
    index = json.loads((shop.output / "index.json").read_text())
    assert list(index["encoders"]) == NAMES
    assert [index["encoders"][name]["backdoored"] for name in NAMES] == [False, True, False]
    for row in index["encoders"].values():
        assert (shop.output / row["weights"]).is_file() and (shop.output / row["truth"]).is_file()
    lines = table(shop).splitlines()
    assert len(lines) == 2 + len(NAMES) and len({line.count("|") for line in lines}) == 1
    assert "failed attack" in lines[4]


def test_the_table_goes_into_its_place_in_a_page(tmp_path):
    page = tmp_path / "zoo.md"
    write_table(page, "| a |\n")
    assert page.read_text() == "| a |\n"
    page.write_text("# Zoo\n\n<!-- table -->\nold\n<!-- /table -->\n\nAfter.\n")
    for text in ("| a |\n", "| b |\n"):
        write_table(page, text)
    assert page.read_text() == "# Zoo\n\n<!-- table -->\n| b |\n<!-- /table -->\n\nAfter.\n"


def test_nothing_is_built_on_an_encoder_that_failed(tmp_path):
    def change(recipe):
        few_steps(recipe)
        recipe["defaults"]["training"]["set"]["learning_rate"] = 1e30

    results = build(shop_of(tmp_path, written(tmp_path, change)), NAMES)
    assert list(results) == ["clean"]
    assert results["clean"].problem.code == "loss_not_finite"
