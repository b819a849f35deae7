from __future__ import annotations

import copy
import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from core.encoders.load import LoadedEncoder, load_encoder
from core.encoders.write import write_encoder
from core.types import Encoder
from tests.unit.encoders.folders import IMAGES, MODELS, expected, write


def changed(loaded: LoadedEncoder) -> Encoder:
    encoder = copy.deepcopy(loaded.encoder)
    with torch.no_grad():
        for parameter in encoder.backbone.parameters():
            parameter.mul_(1.25)
    return encoder


def features(encoder: Encoder) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = encoder(IMAGES)
    return found


@pytest.mark.parametrize("name", ["vit", "vit_mae_whole", "dinov2_swiglu", "clip", "siglip", "swin", "resnet"])
def test_the_library_loads_what_is_written(tmp_path: Path, name: str) -> None:
    import transformers

    write(tmp_path / "in", name)
    loaded = load_encoder(tmp_path / "in")
    purified = changed(loaded)
    write_encoder(loaded, purified, tmp_path / "out")
    again = getattr(transformers, MODELS[name][1]).from_pretrained(tmp_path / "out", local_files_only=True).eval()
    torch.testing.assert_close(expected(again, name), features(purified), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features(load_encoder(tmp_path / "out").encoder), features(purified))
    assert {file.name for file in (tmp_path / "out").iterdir()} == {file.name for file in (tmp_path / "in").iterdir()}
    before, after = (load_file(tmp_path / each / "model.safetensors") for each in ("in", "out"))
    other = [key for key in before if key.startswith(("text_model.", "decoder.", "logit_scale", "classifier."))]
    assert all(torch.equal(before[key], after[key]) for key in other) and before.keys() == after.keys()
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_shards_and_dtypes_stay(tmp_path: Path) -> None:
    made = write(tmp_path / "in", "vit", max_shard_size="30KB")
    for file in (tmp_path / "in").glob("*.safetensors"):
        save_file({key: value.bfloat16() for key, value in load_file(file).items()}, file, metadata={"format": "pt"})
    loaded = load_encoder(tmp_path / "in")
    write_encoder(loaded, changed(loaded), tmp_path / "out")
    index = next((tmp_path / "in").glob("*.index.json"))
    assert (tmp_path / "out" / index.name).read_bytes() == index.read_bytes()
    for key, part in json.loads(index.read_text())["weight_map"].items():
        with safe_open(tmp_path / "out" / part, "pt") as opened:
            assert opened.get_tensor(key).dtype is torch.bfloat16
    again = type(made).from_pretrained(tmp_path / "out", local_files_only=True, dtype=torch.float32).eval()
    torch.testing.assert_close(
        expected(again, "vit"), features(load_encoder(tmp_path / "out").encoder), rtol=1e-4, atol=1e-5
    )


def test_a_zip_comes_back_as_a_zip_and_a_folder_as_one_file(tmp_path: Path) -> None:
    write(tmp_path / "in", "convnext")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for file in (tmp_path / "in").iterdir():
            archive.write(file, "model/" + file.name)
    loaded = load_encoder(tmp_path / "in.zip")
    purified = changed(loaded)
    write_encoder(loaded, purified, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "in.zip") as before, zipfile.ZipFile(tmp_path / "out.zip") as after:
        assert sorted(before.namelist()) == sorted(after.namelist())
    torch.testing.assert_close(features(load_encoder(tmp_path / "out.zip").encoder), features(purified))
    write_encoder(loaded, purified, tmp_path / "out.safetensors")  # its card carries the config
    torch.testing.assert_close(features(load_encoder(tmp_path / "out.safetensors").encoder), features(purified))


def test_pickled_weights_stay_pickled(tmp_path: Path) -> None:
    made = write(tmp_path / "in", "resnet")
    torch.save(load_file(tmp_path / "in/model.safetensors"), tmp_path / "in/pytorch_model.bin")
    (tmp_path / "in/model.safetensors").unlink()
    loaded = load_encoder(tmp_path / "in")
    purified = changed(loaded)
    write_encoder(loaded, purified, tmp_path / "out")
    again = type(made).from_pretrained(tmp_path / "out", local_files_only=True).eval()
    torch.testing.assert_close(expected(again, "resnet"), features(purified), rtol=1e-4, atol=1e-5)
