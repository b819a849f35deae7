"""Calibration over a zoo: which encoders, which averages, and what is not searched twice. The search is a stand-in."""

import json
import shutil

import numpy as np
import pytest
import torch

import core.zoo.calibrate as calibrate_module
from core.encoders.card import FORMAT, parse_card
from core.encoders.fresh import fresh_encoder
from core.encoders.save import save_encoder
from core.errors import UnsupportedInput
from core.recovery.bands import read_bands
from core.run import QuietRun
from core.zoo.calibrate import calibrate, clean_encoders

CARD = parse_card(
    {
        "format": FORMAT,
        "architecture": "torchvision/resnet18",
        "input_size": 32,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
    }
)
SCORES = {0: {"mask": 0.8, "growth": 2.0}, 1: {"mask": 0.6}}
"""By seed; on the second, half the strength did nothing, so that there is no growth."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "clean.safetensors"
    save_encoder(path, fresh_encoder(CARD, seed=0, name="encoder"), CARD)
    return path


@pytest.fixture
def zoo(tmp_path, weights):
    folder = tmp_path / "zoo"
    folder.mkdir()
    shutil.copy(weights, folder / "clean.safetensors")
    rows = {
        "clean": {"weights": "clean.safetensors", "accepted": True, "backdoored": False},
        "bad": {"weights": "bad.safetensors", "accepted": True, "backdoored": True},
        "failed": {"weights": "failed/failed.safetensors", "accepted": False, "backdoored": False},
    }
    (folder / "index.json").write_text(json.dumps({"encoders": rows}))
    return folder


@pytest.fixture
def searched(monkeypatch):
    """The seeds that were searched with, in order."""
    seeds = []

    def scores(encoder, images, config, run, *, seed):
        seeds.append(seed)
        return SCORES[seed]

    monkeypatch.setattr(calibrate_module, "clean_scores", scores)
    return seeds


def run(zoo, output, seeds, keep=False):
    np.savez(zoo.parent / "images.npz", images=np.random.default_rng(0).integers(0, 256, (50, 32, 32, 3), np.uint8))
    images, cpu = zoo.parent / "images.npz", torch.device("cpu")
    encoders = clean_encoders([zoo])
    return list(calibrate(encoders, images, output, ["default"], QuietRun(), seeds=seeds, device=cpu, keep=keep))


def test_only_clean_encoders_are_a_yardstick(zoo):
    assert [encoder.name for encoder in clean_encoders([zoo])] == ["clean"]
    (zoo / "index.json").write_text('{"encoders": {}}')
    with pytest.raises(UnsupportedInput, match="no clean encoder"):
        clean_encoders([zoo])
    (zoo / "index.json").unlink()
    with pytest.raises(UnsupportedInput, match=r"index\.json"):
        clean_encoders([zoo])


def test_scores_are_averaged_where_every_seed_has_them(zoo, searched, tmp_path):
    [(preset, seen)] = run(zoo, tmp_path / "bands.json", seeds=2)
    assert preset == "default" and seen.seeds == 2 and searched == [0, 1]
    assert seen.scores == {"mask": pytest.approx(0.7)}
    [band] = read_bands((tmp_path / "bands.json").read_text())
    assert band.observed == (seen,)


def test_what_is_measured_is_not_searched_again(zoo, searched, tmp_path):
    [(_, first)] = run(zoo, tmp_path / "bands.json", seeds=1)
    [(_, again)] = run(zoo, tmp_path / "bands.json", seeds=1)
    assert searched == [0] and again == first and first.scores == SCORES[0]
    run(zoo, tmp_path / "bands.json", seeds=2)
    assert searched == [0, 0, 1]


def test_encoders_of_other_zoos_stay_where_asked(zoo, searched, tmp_path):
    output = tmp_path / "bands.json"
    run(zoo, output, seeds=1)
    document = json.loads(output.read_text())
    document["bands"][0]["encoders"][0] |= {"name": "elsewhere", "sha256": "0" * 64}
    output.write_text(json.dumps(document))
    for _ in range(2):  # the second run finds both there, and neither twice
        run(zoo, output, seeds=1, keep=True)
        [band] = read_bands(output.read_text())
        assert [one.name for one in band.observed] == ["elsewhere", "clean"]
    run(zoo, output, seeds=1)
    [band] = read_bands(output.read_text())
    assert [one.name for one in band.observed] == ["clean"]
