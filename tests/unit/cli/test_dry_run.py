"""``--dry-run``, ``--time-limit`` and ``--budget`` on a real encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import core.audit
from core.cli.app import run
from tests.unit.forecast.counting import noise_images

ENCODER = str(Path(__file__).parents[3] / "samples" / "clean.safetensors")


@pytest.fixture
def images(tmp_path: Path) -> str:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, pixels in zip(noise_images(60, 32).names, noise_images(60, 32).pixels, strict=True):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / name)
    return str(folder)


@pytest.mark.parametrize("kind", ["detect", "purify", "canary"])
def test_a_dry_run_says_the_cost_and_runs_nothing(
    kind: str, images: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core.audit, "run_audit", lambda *given: pytest.fail("it ran"))
    arguments = [kind, ENCODER, images, "--dry-run", "--budget", "quick", "--format", "json"]
    assert run(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    forecast = said["forecast"]
    assert (said["kind"], said["dry_run"], said["images"]["count"]) == (kind, True, 60)
    assert "timm/test_resnet" in said["encoder"]["audited"]
    assert 0 < forecast["seconds_low"] < forecast["seconds_high"] and forecast["memory_bytes"] > 2**20
    assert forecast["passes"] == sum(part["passes"] for part in forecast["parts"] if part["certain"])


def test_a_table_for_people(images: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["detect", ENCODER, images, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "Would be audited: timm/test_resnet" in said and "Forecast:" in said and "searching for triggers" in said


def test_notes_on_the_images_are_said(images: str, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, *_ = sorted(Path(images).iterdir())
    second.write_bytes(first.read_bytes())
    assert run(["detect", ENCODER, images, "--dry-run", "--format", "json"]) == 0
    (note,) = json.loads(capsys.readouterr().out)["images"]["notes"]
    assert note.startswith("59 of the 60 images are distinct")
    assert run(["detect", ENCODER, images, "--dry-run"]) == 0
    assert f"Images: {note}" in capsys.readouterr().out


def test_what_is_sure_to_take_longer_is_refused(images: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["detect", ENCODER, images, "--time-limit", "0.01s", "--format", "json"]) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["field"]) == ("too_expensive", "time_limit")
    longer = error["action"].split("--time-limit ")[1].split()[0]
    assert run(["detect", ENCODER, images, "--time-limit", longer, "--dry-run"]) == 0


def test_options_that_do_not_go_together(images: str, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, code in (
        (["--budget", "quick", "--preset", "paper"], "invalid_parameter"),
        (["--time-limit", "soon"], "invalid_time_limit"),
        (["--budget", "huge"], "invalid_parameter"),
    ):
        assert run(["detect", ENCODER, images, *wrong, "--dry-run", "--format", "json"]) == 4
        assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert run(["purify", ENCODER, images]) == 4
    assert "--output" in capsys.readouterr().err
