from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.encoders.load import LoadedEncoder, load_encoder
from core.errors import AuditError, UnsupportedInput
from tests.unit.encoders.folders import IMAGES, MODELS, expected, make, write


@torch.no_grad()
def features(loaded: LoadedEncoder) -> torch.Tensor:
    found: torch.Tensor = loaded.encoder(IMAGES)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_features_are_the_librarys_own(tmp_path: Path, name: str) -> None:
    made = write(tmp_path, name)
    loaded = load_encoder(tmp_path)
    own = expected(made, name)
    assert float(own.std(0).mean()) > 1e-3  # images differ in it, or equality would say nothing
    torch.testing.assert_close(features(loaded), own, rtol=1e-4, atol=1e-5)
    assert torch.equal(features(loaded), features(loaded))
    assert loaded.card.image_size == (32, 32) and loaded.card.mean == (0.4, 0.5, 0.6)


def test_shards_and_pickled_weights_are_read(tmp_path: Path) -> None:
    made = write(tmp_path / "sharded", "vit", max_shard_size="30KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    torch.testing.assert_close(features(load_encoder(tmp_path / "sharded")), expected(made, "vit"))
    write(tmp_path / "old", "vit")
    torch.save(load_file(tmp_path / "old/model.safetensors"), tmp_path / "old/pytorch_model.bin")
    (tmp_path / "old/model.safetensors").unlink()
    torch.testing.assert_close(features(load_encoder(tmp_path / "old")), expected(made, "vit"))


def test_a_lone_file_takes_the_config_beside_it(tmp_path: Path) -> None:
    made = write(tmp_path, "dinov2")
    torch.testing.assert_close(features(load_encoder(tmp_path / "model.safetensors")), expected(made, "dinov2"))
    (tmp_path / "config.json").unlink()
    with pytest.raises(UnsupportedInput, match=r"Give the folder, or lay config\.json beside the file"):
        load_encoder(tmp_path / "model.safetensors")


@pytest.mark.parametrize("top", ["", "my-encoder/"])
def test_a_zip_of_the_folder_is_the_folder(tmp_path: Path, top: str) -> None:
    made = write(tmp_path / "in", "resnet")
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (tmp_path / "in").iterdir():
            archive.write(file, top + file.name)
    torch.testing.assert_close(features(load_encoder(tmp_path / "in.zip")), expected(made, "resnet"))


def test_the_card_chooses_the_feature(tmp_path: Path) -> None:
    made = write(tmp_path, "clip_projected")
    plain = load_encoder(tmp_path, card={"projection": False})
    assert plain.encoder.feature_dim == 32 and "projection" not in " ".join(plain.reading.assumptions)
    assert load_encoder(tmp_path).encoder.feature_dim == 12
    with torch.no_grad():
        hidden = made(plain_pixels(plain)).last_hidden_state
    mean = load_encoder(tmp_path, card={"projection": False, "pooling": "mean"})
    torch.testing.assert_close(features(mean), hidden[:, 1:].mean(1))
    cls = load_encoder(tmp_path, card={"pooling": "cls"})
    torch.testing.assert_close(features(cls), hidden[:, 0])


def plain_pixels(loaded: LoadedEncoder) -> torch.Tensor:
    return (IMAGES - loaded.encoder.mean) / loaded.encoder.std


def test_positions_are_resampled_for_another_size(tmp_path: Path) -> None:
    made = write(tmp_path, "vit")
    loaded = load_encoder(tmp_path, card={"input_size": 48})
    images = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        own = made((images - loaded.encoder.mean) / loaded.encoder.std, interpolate_pos_encoding=True).pooler_output
        torch.testing.assert_close(loaded.encoder(images), own)


@pytest.mark.parametrize(
    ("preprocessor", "size", "mean", "std"),
    [
        ({"size": 48, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, (48, 48), 0.5, 0.5),
        ({"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}, (32, 32), 0.485, 0.229),
        ({"size": {"shortest_edge": 40}, "crop_size": 32, "do_center_crop": False}, (40, 40), 0.485, 0.229),
        ({"size": {"height": 32, "width": 48}, "do_normalize": False}, (32, 48), 0.0, 1.0),
        ({"size": 32, "do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3}, (32, 32), 0.5, 0.2),
    ],
)
def test_preprocessors(
    tmp_path: Path, preprocessor: dict[str, Any], size: tuple[int, int], mean: float, std: float
) -> None:
    write(tmp_path, "resnet")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    loaded = load_encoder(tmp_path)
    assert loaded.card.image_size == size
    assert (loaded.card.mean[0], loaded.card.std[0]) == pytest.approx((mean, std))
    assumed = mean == 0.485
    assert any("as this family is published" in sentence for sentence in loaded.reading.assumptions) == assumed


def test_timms_folders_name_their_architecture(tmp_path: Path) -> None:
    import timm

    made = timm.create_model("resnet10t", num_classes=0).eval()
    save_file(made.state_dict(), tmp_path / "model.safetensors")
    pixels = {"input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet10t", "pretrained_cfg": pixels}))
    with torch.no_grad():
        torch.testing.assert_close(features(load_encoder(tmp_path)), made((IMAGES - 0.5) / 0.25), rtol=1e-4, atol=1e-5)


def spoil(folder: Path, name: str, **changes: Any) -> None:
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({k: v for k, v in {**config, **changes}.items() if v is not None}))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model_type": None}, "unknown_architecture"),
        ({"model_type": "bert"}, "unknown_architecture"),
        ({"auto_map": {"AutoModel": "modeling.Own"}}, "invalid_config"),
        ({"num_hidden_layers": 10**6}, "invalid_config"),
        ({"hidden_size": 10**9}, "invalid_config"),
        ({"hidden_size": 65536, "intermediate_size": 65536, "num_hidden_layers": 128}, "invalid_config"),
        ({"patch_size": 0}, "invalid_config"),
        ({"hidden_act": "no such"}, "architecture_not_built"),
        ({"num_attention_heads": 5}, "keys_do_not_match"),
        ({"num_hidden_layers": 3}, "keys_do_not_match"),
        ({"quantization_config": {"bits": 4}}, "invalid_config"),
    ],
)
def test_hostile_and_wrong_configs(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    write(tmp_path, "vit")
    spoil(tmp_path, "config.json", **changes)
    with pytest.raises(AuditError) as caught:
        load_encoder(tmp_path)
    assert caught.value.problem.code == code, caught.value


def test_hostile_indexes(tmp_path: Path) -> None:
    write(tmp_path / "in", "vit", max_shard_size="30KB")
    index = next((tmp_path / "in").glob("*.index.json"))
    listed = json.loads(index.read_text())["weight_map"]
    first = next(iter(listed))

    def code() -> str:
        with pytest.raises(UnsupportedInput) as caught:
            load_encoder(tmp_path / "in")
        return caught.value.problem.code

    for name in ("../x.safetensors", "/etc/passwd", "a/b.safetensors", ".hidden.bin"):
        index.write_text(json.dumps({"weight_map": {**listed, first: name}}))
        assert code() == "unsafe_folder"
    index.write_text(json.dumps({"weight_map": {**listed, "another.weight": listed[first]}}))
    assert code() == "missing_part"
    index.write_text(json.dumps({"weight_map": listed}))
    part = tmp_path / "in" / listed[first]
    with pytest.raises(UnsupportedInput, match="one part of several"):
        load_encoder(part)
    part.rename(tmp_path / "away.safetensors")
    assert code() == "missing_part"
    part.symlink_to(tmp_path / "away.safetensors")
    assert code() == "unsafe_folder"


def test_the_hubs_cache_of_links_is_read(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "snapshots/abc", tmp_path / "blobs"
    made = write(blobs, "resnet")
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(Path("../../blobs") / file.name)
    torch.testing.assert_close(features(load_encoder(snapshot)), expected(made, "resnet"))


def test_hostile_zips(tmp_path: Path) -> None:
    write(tmp_path / "in", "resnet")
    config = (tmp_path / "in/config.json").read_bytes()

    def code(entries: list[tuple[str | zipfile.ZipInfo, bytes]]) -> str:
        with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", config)
            for name, data in entries:
                archive.writestr(name, data)
        with pytest.raises(AuditError) as caught:
            load_encoder(tmp_path / "x.zip")
        return caught.value.problem.code

    link = zipfile.ZipInfo("model.safetensors")
    link.external_attr = 0o120777 << 16
    assert code([(link, b"/etc/passwd")]) == "unsafe_folder"
    assert code([("../model.safetensors", b"x")]) == "not_a_model_folder"
    assert code([("model.safetensors", bytes(100 * 2**20))]) == "unsafe_folder"
    assert not list(tmp_path.parent.glob("model.safetensors"))


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInput, match=r"config\.json beside the weights"):
        load_encoder(tmp_path)
    (tmp_path / "log.txt").write_text("epoch 1")
    (tmp_path / "checkpoint.pth").write_bytes(b"weights")
    with pytest.raises(
        UnsupportedInput, match=r"in which lie checkpoint\.pth.* Give the file itself, such as checkpoint"
    ):
        load_encoder(tmp_path)
    (tmp_path / "checkpoint.pth").unlink()
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UnsupportedInput, match=r"without model\.safetensors"):
        load_encoder(tmp_path)


def test_names_of_older_writers_are_dropped_not_refused(tmp_path: Path) -> None:
    """Old files carry index tables, and heads of pretraining, that the network of today has not."""
    made = write(tmp_path, "clip")
    state = load_file(tmp_path / "model.safetensors")
    state["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    torch.testing.assert_close(features(load_encoder(tmp_path)), expected(made, "clip"))
    assert make("clip").config.model_type == "clip"
