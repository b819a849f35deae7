"""Examining a population: with which images, what is kept, and what is not searched twice. The search is a stand-in."""

import json
import shutil
from types import SimpleNamespace

import pytest
import yaml

import core.zoo.examine as examine_module
from core.decision.evidence import Context, Evidence, Examination
from core.encoders.card import FORMAT, parse_card
from core.encoders.fresh import fresh_encoder
from core.encoders.save import save_encoder
from core.zoo.examine import Work, examined
from core.zoo.record import EncoderRecord
from tests.unit.attacks.class_folders import labelled_files, write_zip

ARCHITECTURE = "torchvision/shufflenet_v2_x0_5"
CARD = parse_card(
    {"format": FORMAT, "architecture": ARCHITECTURE, "input_size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
)
RECIPE = {
    "format": "encoder-audit-zoo/1",
    "name": "small",
    "data": {"set": {"train": "train.zip", "test": "test.zip"}},
    "encoders": [
        {
            "name": "clean",
            "seeds": [1, 2],
            "part": "design",
            "data": "set",
            "card": {"architecture": ARCHITECTURE, "stem": "fast", "input_size": 32},
            "training": {"method": "simclr"},
        },
        {
            "name": "planted",
            "part": "design",
            "data": "set",
            "base": "clean-2",
            "backdoor": {"method": "drupe", "class": "cat", "trigger": "white-patch:side=6"},
        },
    ],
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    save_encoder(path, fresh_encoder(CARD, seed=0, name="encoder"), CARD)
    return path


@pytest.fixture
def built(tmp_path, weights):
    """A population of two built encoders and one that is not, and what each would be examined by."""
    zoo = tmp_path / "zoo"
    (zoo / "records").mkdir(parents=True)
    for name, attack in (("clean-1", None), ("planted", {"method": "drupe"})):
        shutil.copy(weights, zoo / f"{name}.safetensors")
        record = EncoderRecord(name, "", {}, 0, "", f"digest of {name}", True, None, 1, None, 1.0, 1.0, attack=attack)
        record.write(zoo / "records" / f"{name}.json")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    write_zip(tmp_path / "test.zip", labelled_files(120))
    return lambda name: Work(tmp_path / "recipe.yaml", tmp_path, zoo, tmp_path / "out", name, "quick")


@pytest.fixture
def searched(monkeypatch):
    """What was searched, in order: how many images, with how many steps."""
    calls = []

    def examine(network, images, config, run, *, seed):
        calls.append((len(images), config.steps))
        context = Context(ARCHITECTURE, 32, 0.5, 0.25, len(images), 2.0, 0.5)
        return SimpleNamespace(examination=Examination(context, (Evidence("masked", 0.03, 1.5),)))

    monkeypatch.setattr(examine_module, "examine", examine)
    return calls


def test_an_encoder_is_known_by_its_recipe_part_and_attack(built, searched):
    clean, planted = examined(built("clean-1")), examined(built("planted"))
    assert (clean.recipe, clean.part, clean.sha256, clean.attack) == ("clean", "design", "digest of clean-1", None)
    assert (planted.recipe, planted.attack) == ("clean", "drupe")
    assert clean.examination.evidence[0].effect == 1.5


def test_it_is_searched_with_the_preset_and_with_as_many_images_as_its_seed_says(built, searched):
    examined(built("clean-1"))
    assert searched == [(200, 60)]


def test_what_was_found_is_not_searched_again(built, searched):
    first = examined(built("clean-1"))
    assert examined(built("clean-1")) == first
    assert len(searched) == 1


def test_other_weights_or_another_search_are(built, searched, tmp_path):
    examined(built("clean-1"))
    path = tmp_path / "out" / "quick" / "clean-1.json"
    for field in ("sha256", "key"):
        kept = json.loads(path.read_text())
        path.write_text(json.dumps({**kept, field: "another"}))
        examined(built("clean-1"))
    assert len(searched) == 3


def test_what_is_not_built_is_nothing(built, searched):
    assert examined(built("clean-2")) is None
    assert searched == []
