"""The installed command, as a shell sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import mobilenet_v3_small

from core.triggers import MaskedTrigger, save_trigger
from tests.planted import planted_images, planted_labels

COMMAND = [sys.executable, "-m", "core.cli"]
CARD = {
    "format": "encoder-card/1",
    "architecture": "torchvision/mobilenet_v3_small",
    "input_size": 32,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
}


def encoder_audit(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command on one thread, and not on a terminal."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained encoder with its card, and 64 images in a zip."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    model = mobilenet_v3_small(weights=None)
    weights = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("classifier.3")}
    save_file(weights, folder / "encoder.safetensors", metadata={"encoder_card": json.dumps(CARD)})
    images = planted_images(64)
    pack(folder / "images.zip", images.names, images.pixels)
    return folder


def pack(path: Path, names: Iterable[str], images: Iterable[Tensor]) -> None:
    """A zip of PNGs; ``images`` are ``[3, H, W]`` uint8."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, pixels in zip(names, images, strict=True):
            with archive.open(name, "w") as file:
                Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, format="PNG")


def test_help_does_not_import_torch() -> None:
    code = "import sys, core.cli.app; core.cli.app.run(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False).returncode == 0


def test_methods_as_json_is_the_published_catalogue() -> None:
    published = Path(__file__).parents[2] / "api" / "contract" / "methods.json"
    done = encoder_audit("methods", "--format", "json")
    assert (done.returncode, json.loads(done.stdout)) == (0, json.loads(published.read_text(encoding="utf-8")))


def test_purify_end_to_end(files: Path) -> None:
    output, report = files / "out.safetensors", files / "report"
    names = ("steps", "additive_steps", "spectral_steps", "window_steps", "target_steps", "purification.steps")
    few = [word for name in (*names, "square_images") for word in ("--set", f"{name}=2")]
    few += ["--set", "square_stride=0.25"]
    arguments = ["purify", files / "encoder.safetensors", files / "images.zip", "--output", output, "--report", report]
    done = encoder_audit(*arguments, "--format", "json", "--device", "cpu", *few)
    document = json.loads(done.stdout)
    assert done.returncode == {"clean": 0, "backdoored": 1, "inconclusive": 5}[document["purified"]["verdict"]]
    assert "Traceback" not in done.stderr
    written = json.loads((report / "report.json").read_text(encoding="utf-8"))
    assert written["purification"]["sha256"] == document["purified"]["sha256"]
    assert written["images"]["count"] == 64
    assert (report / "report.html").stat().st_size > 10_000
    assert output.exists()
    names = {path.name for path in files.iterdir()}
    assert names == {"encoder.safetensors", "images.zip", "out.safetensors", "report"}


def test_a_file_that_is_no_encoder(files: Path) -> None:
    done = encoder_audit("detect", files / "images.zip", files / "images.zip", "--format", "json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["field"] == "encoder"


def test_evaluate_measures_accuracy_and_a_trigger_that_does_all(files: Path, tmp_path: Path) -> None:
    images, labels = planted_images(128), planted_labels(128)
    names = [f"class-{label}/{name}" for label, name in zip(labels.tolist(), images.names, strict=True)]
    pack(tmp_path / "labelled.zip", names, images.pixels)
    # Painting the whole image with one of class 2 makes every image that one.
    painted = images.pixels[2].float() / 255
    save_trigger(tmp_path / "all.npz", MaskedTrigger(torch.ones(1, 32, 32), painted))
    archive = ["--train", tmp_path / "labelled.zip", "--test", tmp_path / "labelled.zip"]
    truth = ["--trigger", tmp_path / "all.npz", "--target", "class-2"]
    few = ["--limit-per-class", "25", "--format", "json"]
    probes = ["--probe", "linear", "--probe", "linear-1pct", "--reference", files / "encoder.safetensors"]
    done = encoder_audit("evaluate", files / "encoder.safetensors", *archive, *truth, *few, *probes)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["classes"] == ["class-0", "class-1", "class-2", "class-3"]
    assert document["test_images"] == 4 * 25
    assert document["asr"]["total"] == 3 * 25
    # The same image everywhere gets one and the same answer.
    assert document["asr"]["percent"] in (0.0, 100.0)
    assert document["net"] == pytest.approx(document["asr"]["percent"] - document["base"]["percent"])
    assert [(row["name"], row["labels_used"]) for row in document["probes"]] == [("linear", 100), ("linear-1pct", 4)]
    # The encoder is its own reference here: nothing is left.
    assert [row["asr_net"]["points"] for row in document["probes"]] == [0, 0]
    assert document["reference"]["sha256"] == document["encoder"]["sha256"]
    assert document["seed"] == 0 and document["knn_acc"] is None


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (["--probe", "svm"], "arguments"),
        (["--reference", "nowhere.pt"], "reference"),
        (["--reference-card", "x"], "reference-card"),
    ],
)
def test_evaluate_names_the_option_at_fault(wrong: list[str], field: str, files: Path) -> None:
    archive = ["--train", files / "images.zip", "--test", files / "images.zip"]
    done = encoder_audit("evaluate", files / "encoder.safetensors", *archive, *wrong, "--format", "json")
    assert (done.returncode, json.loads(done.stdout)["error"]["field"]) == (4, field)


@pytest.mark.parametrize("half", [["--trigger", "x.npz"], ["--target", "cat"]])
def test_evaluate_wants_trigger_and_target_together(half: list[str], files: Path) -> None:
    archive = ["--train", files / "images.zip", "--test", files / "images.zip"]
    assert encoder_audit("evaluate", files / "encoder.safetensors", *archive, *half).returncode == 4
