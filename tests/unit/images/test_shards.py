"""A folder of shards."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import UnsupportedInput
from core.images import archive
from core.images.labelled import load_labelled
from core.images.load import load_images
from tests.unit.images.pictures import SIZE, class_files, picture, tarred


def webdataset(root: Path) -> Path:
    """Two shards of three samples each, and the files that usually stand beside them."""
    root.mkdir(exist_ok=True)
    for shard, mode in (("train-000000.tar", "w"), ("train-000001.tar.gz", "w:gz")):
        first = 3 * int(shard[6:12])
        files = {f"{i:04d}.{kind}": data for i in range(first, first + 3) for kind, data in sample(i).items()}
        tarred(root / shard, files, mode)
    (root / "index.json").write_bytes(b"{}")
    (root / ".cache.tar").write_bytes(b"hidden")
    return root


def sample(number: int) -> dict[str, bytes]:
    return {"png": picture(number), "cls": b"0", "json": b"{}"}


def test_samples_of_all_shards_in_their_order(tmp_path: Path) -> None:
    images = load_images(webdataset(tmp_path), SIZE, minimum=6)
    assert images.names == (
        "train-000000.tar!/0000.png",
        "train-000000.tar!/0001.png",
        "train-000000.tar!/0002.png",
        "train-000001.tar.gz!/0003.png",
        "train-000001.tar.gz!/0004.png",
        "train-000001.tar.gz!/0005.png",
    )
    assert [image.name for image in images.rejected] == ["index.json"]
    flat = load_images(tarred(tmp_path / "x", {f"{i}.png": picture(i) for i in range(6)}), SIZE, minimum=6)
    assert images.pixels.equal(flat.pixels)


def test_shards_may_lie_deeper(tmp_path: Path) -> None:
    webdataset(tmp_path / "train")
    assert load_images(tmp_path, SIZE, minimum=6).names[0] == "train/train-000000.tar!/0000.png"


def test_a_tar_among_image_files_is_no_shard(tmp_path: Path) -> None:
    webdataset(tmp_path)
    (tmp_path / "own.png").write_bytes(picture())
    images = load_images(tmp_path, SIZE, minimum=1)
    assert images.names == ("own.png",)
    assert "train-000000.tar" in {image.name for image in images.rejected}


def test_class_folders_are_those_inside_the_shards(tmp_path: Path) -> None:
    files = class_files()
    for number in range(2):
        tarred(tmp_path / f"{number}.tar", {name: data for name, data in files.items() if int(name[4]) % 2 == number})
    labelled = load_labelled(tmp_path, SIZE, minimum=12)
    assert labelled.classes == ("ant", "cat", "dog")
    assert [labelled.classes[label] for label in labelled.labels] == [
        name.split("!/")[1].split("/")[0] for name in labelled.images.names
    ]


def test_shards_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInput) as caught:
        load_labelled(webdataset(tmp_path), SIZE, minimum=1)
    assert caught.value.problem.code == "no_classes"


def test_a_shard_that_is_cut_off_is_named(tmp_path: Path) -> None:
    webdataset(tmp_path)
    path = tmp_path / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UnsupportedInput) as caught:
        load_images(tmp_path, SIZE, minimum=1)
    assert caught.value.problem.code == "truncated_archive"
    assert caught.value.problem.found.startswith("train-000000.tar: ")


def test_the_files_of_all_shards_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 10)  # nine files in a shard
    assert len(load_images(webdataset(tmp_path), SIZE, minimum=6)) == 6
    monkeypatch.setattr(archive, "MAX_MEMBERS", 5)
    with pytest.raises(UnsupportedInput) as caught:
        load_images(tmp_path, SIZE, minimum=1)
    assert caught.value.problem.code == "zip_bomb"


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow", exc_type=ImportError), pytest.importorskip("pyarrow.parquet")
    for number in range(2):
        table = pa.table({"image": [{"bytes": picture(2 * number + i), "path": None} for i in range(2)]})
        parquet.write_table(table, tmp_path / f"train-{number:05d}-of-00002.parquet")
    images = load_images(tmp_path, SIZE, minimum=4)
    assert images.names[0] == "train-00000-of-00002.parquet!/row-00000000"
    flat = load_images(tarred(tmp_path / "x", {f"{i}.png": picture(i) for i in range(4)}), SIZE, minimum=4)
    assert images.pixels.equal(flat.pixels)
