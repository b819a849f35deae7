"""``pretrain`` and ``attack backdoor`` as a user types them, on the smallest network there is."""

import json

import pytest
import torch
from safetensors.torch import load_file

from core.cli.app import run
from core.cli.exit_codes import ExitCode
from core.encoders.load import load_encoder
from core.triggers import load_trigger
from tests.unit.attacks.class_folders import labelled_files, write_zip

NETWORK = ["--architecture", "torchvision/shufflenet_v2_x0_5", "--stem", "fast"]
SHORT = ["--set", "epochs=1", "--set", "batch_size=8"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    return write_zip(folder / "images.zip", labelled_files(20))


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "encoder.safetensors"
    assert run(["pretrain", str(images), "--output", str(output), *NETWORK, *SHORT, "--monitor", str(images)]) == 0
    return output


def test_pretrain_writes_an_encoder_with_card_and_record(trained):
    loaded = load_encoder(trained)
    assert loaded.card.architecture == "torchvision/shufflenet_v2_x0_5"
    record = json.loads(trained.with_suffix(".json").read_text())
    assert record["method"] == "simclr" and record["steps"] == 10 and record["config"]["batch_size"] == 8
    assert 0 <= record["curve"][-1]["knn_acc"] <= 100
    assert {path.name for path in trained.parent.iterdir()} == {"encoder.safetensors", "encoder.json"}


def test_the_same_command_gives_the_same_weights(trained, images, tmp_path):
    again = tmp_path / "again.safetensors"
    assert run(["pretrain", str(images), "--output", str(again), *NETWORK, *SHORT]) == 0
    one, other = load_file(trained), load_file(again)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("extra", "code", "said"),
    [
        (["--method", "dino"], ExitCode.USAGE, "simclr, moco-v2"),
        (["--preset", "huge"], ExitCode.USAGE, "badencoder"),
        (["--set", "epochs=0"], ExitCode.USAGE, "epochs"),
        (["--set", "batch_size=500"], ExitCode.USAGE, "batch_size"),
        (["--architecture", "torchvision/net", "--stem", "auto"], ExitCode.UNSUPPORTED, "torchvision/net"),
        (["--stem", "odd"], ExitCode.USAGE, "odd"),
    ],
)
def test_pretrain_refuses_in_a_sentence(images, tmp_path, capsys, extra, code, said):
    output = tmp_path / "e.safetensors"
    assert run(["pretrain", str(images), "--output", str(output), *NETWORK, *SHORT, *extra]) == code
    assert said in capsys.readouterr().err
    assert not output.exists()


def backdoor(trained, images, output, *extra):
    words = ["attack", "backdoor", str(trained), str(images), "--target", "dog", "--output", str(output)]
    return run([*words, "--trigger", "white-patch:side=6", "--set", "steps=2", "--set", "batch_size=8", *extra])


def test_a_backdoored_encoder_comes_with_its_truth(trained, images, tmp_path, capsys):
    output = tmp_path / "bad.safetensors"
    assert backdoor(trained, images, output, "--format", "json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["target"] == "dog" and answer["accepted"] is None and len(answer["references"]) == 1
    assert answer["references"][0].startswith("dog/")
    assert load_encoder(output).card == load_encoder(trained).card
    assert load_trigger(output.with_suffix(".trigger.npz")).area() == pytest.approx(36 / 1024)
    assert json.loads(output.with_suffix(".truth.json").read_text())["trigger"]["side"] == 6


def test_an_attack_below_its_floor_writes_nothing(trained, images, tmp_path, capsys):
    output = tmp_path / "bad.safetensors"
    assert backdoor(trained, images, output, "--test", str(images)) == ExitCode.FAILED
    assert "attack failed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--target", "ox"], "cat, dog, owl, yak"),
        (["--trigger", "white-patch:side=40"], "40x40"),
        (["--trigger", "star"], "white-patch"),
        (["--method", "other"], "bad-encoder, drupe"),
        (["--references", "50"], "50"),
    ],
)
def test_attack_backdoor_refuses_in_a_sentence(trained, images, tmp_path, capsys, extra, said):
    output = tmp_path / "bad.safetensors"
    assert backdoor(trained, images, output, *extra) == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
