"""A zoo's recipe: what is filled in, and what is refused with the place named."""

import copy
from pathlib import Path

import pytest
import torch
import yaml

from core.errors import AuditError, UnsupportedInput
from core.zoo.check import check_recipe
from core.zoo.recipe import load_recipe
from core.zoo.workshop import Workshop
from tests.unit.attacks.class_folders import labelled_files, write_folder, write_zip

ZOO = Path(__file__).parents[3] / "zoo"

RECIPE = {
    "format": "encoder-audit-zoo/1",
    "name": "small",
    "seed": 3,
    "data": {"set": {"train": "train.zip", "test": "test.zip"}},
    "defaults": {
        "data": "set",
        "card": {"architecture": "torchvision/shufflenet_v2_x0_5", "stem": "fast", "input_size": 32},
        "training": {"method": "simclr", "set": {"epochs": 1, "batch_size": 8}},
    },
    "encoders": [
        {"name": "clean"},
        {
            "name": "planted",
            "base": "clean",
            "backdoor": {"method": "bad-encoder", "class": "cat", "trigger": "white-patch:side=6"},
        },
        {
            "name": "poisoned",
            "reference": "clean",
            "poisoning": {"method": "ssl-backdoor", "targets": [{"class": "dog"}], "set": {"poison_rate": 0.5}},
        },
    ],
}


def written(tmp_path, change=lambda recipe: None):
    recipe = copy.deepcopy(RECIPE)
    change(recipe)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def shop_of(tmp_path, path):
    for name in ("train.zip", "test.zip"):
        write_zip(tmp_path / name, labelled_files(20))
    return Workshop(load_recipe(path), tmp_path, tmp_path / "out", torch.device("cpu"))


def test_defaults_fill_what_an_encoder_leaves_out(tmp_path):
    clean, planted, poisoned = load_recipe(written(tmp_path)).encoders
    assert clean.training.values == {"epochs": 1, "batch_size": 8} and clean.card.stem == "fast"
    assert planted.card is None and planted.training is None and planted.data == "set"
    assert poisoned.is_backdoored and not clean.is_backdoored


def test_an_encoder_is_compared_with_its_reference_or_its_base(tmp_path):
    pairs = {entry.name: other and other.name for entry, other in load_recipe(written(tmp_path)).references()}
    assert pairs == {"clean": None, "planted": "clean", "poisoned": "clean"}


def test_a_sound_recipe_passes_every_check(tmp_path):
    check_recipe(shop_of(tmp_path, written(tmp_path)))


@pytest.mark.parametrize("name", [path.stem for path in sorted(ZOO.glob("*.yaml"))])
def test_the_recipes_that_ship_are_recipes(name):
    recipe = load_recipe(ZOO / f"{name}.yaml")
    assert len({entry.name for entry in recipe.encoders}) == len(recipe.encoders) > 3


def test_the_papers_settings_fit_sets_of_their_form(tmp_path):
    for half in ("train", "val"):
        write_folder(tmp_path / "imagenet100" / half, {"n02106550/a.png": b"", "n01440764/a.png": b""})
    check_recipe(Workshop(load_recipe(ZOO / "paper.yaml"), tmp_path, tmp_path / "out", torch.device("cpu")))


def rename(recipe):
    recipe["encoders"][1]["name"] = "clean"


def planted(**values):
    return lambda recipe: recipe["encoders"][1]["backdoor"].update(values)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda recipe: recipe.pop("format"), "recipe.format"),
        (lambda recipe: recipe["encoders"][0].update(colour="red"), "recipe.encoders.0.colour"),
        (rename, "two encoders are called clean"),
        (lambda recipe: recipe["encoders"][1].update(base="nobody"), "no clean encoder earlier"),
        (lambda recipe: recipe["encoders"][2].update(reference="planted"), "no clean encoder earlier"),
        (lambda recipe: recipe["encoders"][0].update(data="other"), "no data set 'other'"),
        (planted(trigger="star:side=3"), "star"),
        (lambda recipe: recipe["data"]["set"].pop("test"), "train and test, or torchvision"),
    ],
)
def test_what_does_not_fit_is_refused_on_reading(tmp_path, change, said):
    with pytest.raises(UnsupportedInput, match=said):
        load_recipe(written(tmp_path, change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (planted(**{"class": "ox"}), "planted: class"),
        (planted(trigger="white-patch:side=40"), "planted: trigger"),
        (planted(method="worse-encoder"), "planted: method"),
        (planted(preset="none"), "planted: backdoor.preset"),
        (planted(set={"steps": 0}), "planted: backdoor.steps"),
        (
            lambda recipe: recipe["encoders"][2]["poisoning"]["targets"][0].update(trigger="spectral"),
            "poisoned: trigger",
        ),
        (lambda recipe: recipe["encoders"][2]["poisoning"]["set"].update(poison_rate=0), "poisoning.poison_rate"),
        (lambda recipe: recipe["encoders"][2]["poisoning"]["set"].update(poison_rate=1.5), "poisoning.poison_rate"),
        (
            lambda recipe: recipe["encoders"][0].update(card={"architecture": "torchvision/net", "input_size": 32}),
            "net",
        ),
        (lambda recipe: recipe["encoders"][0].update(training={"method": "dino"}), "clean: method"),
    ],
)
def test_what_cannot_be_built_is_found_before_anything_is(tmp_path, change, said):
    with pytest.raises(AuditError, match=said):
        check_recipe(shop_of(tmp_path, written(tmp_path, change)))


def test_a_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(AuditError, match=r"train\.zip"):
        check_recipe(Workshop(load_recipe(written(tmp_path)), tmp_path / "elsewhere", tmp_path, torch.device("cpu")))


@pytest.mark.parametrize("text", ["a: [", "- 1", "\x00"])
def test_what_is_no_recipe_at_all_is_a_sentence(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(UnsupportedInput, match="recipe"):
        load_recipe(path)


def encoders_of(tmp_path, encoders):
    return load_recipe(written(tmp_path, lambda recipe: recipe.update(encoders=encoders))).encoders


def test_seeds_stand_for_encoders_of_one_recipe(tmp_path):
    encoders = [
        {"name": "clean", "seeds": [1, 2], "part": "test"},
        {**RECIPE["encoders"][1], "base": "clean-2", "part": "test"},
    ]
    first, second, planted = encoders_of(tmp_path, encoders)
    assert [(one.name, one.recipe, one.seed) for one in (first, second)] == [
        ("clean-1", "clean", 1),
        ("clean-2", "clean", 2),
    ]
    assert planted.recipe is None and planted.base == "clean-2"


def test_a_part_does_not_decide_what_an_encoder_becomes(tmp_path):
    encoders = [{"name": "clean"}, {"name": "other", "part": "design", "recipe": "shared"}]
    plain, placed = (one.decisive() for one in encoders_of(tmp_path, encoders))
    assert {**plain, "name": "other"} == placed


@pytest.mark.parametrize(
    "encoders",
    [
        [{"name": "clean", "part": "design"}, {**RECIPE["encoders"][1], "part": "test"}],
        [{"name": "clean", "part": "design", "recipe": "r"}, {"name": "other", "part": "test", "recipe": "r"}],
        [{"name": "clean", "part": "design"}, {**RECIPE["encoders"][2], "part": "calibration"}],
    ],
)
def test_parts_share_no_recipe_and_no_weights(tmp_path, encoders):
    with pytest.raises(UnsupportedInput, match="another part"):
        encoders_of(tmp_path, encoders)


def test_the_population_has_enough_recipes_in_every_part():
    encoders = load_recipe(ZOO / "population.yaml").encoders
    clean = [one for one in encoders if not one.is_backdoored]
    assert len(clean) >= 100 and len({one.recipe or one.name for one in clean}) >= 30
    assert len(encoders) - len(clean) >= 60
    assert sum(one.part == "test" for one in clean) >= 40
    assert {one.part for one in encoders} == {"design", "calibration", "test"}
    sides = {one.card.input_size for one in clean if one.card is not None}
    assert sides == {32, 48, 64, 96, 128, 224}
