"""Some of a set's images, written in the form in which the set came; and how large most of them are."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core.images.load import load_images
from core.images.sizes import usual_size
from core.images.subset import write_subset
from tests.unit.images.pictures import SIZE, class_files, picture, pixels, tarred, zipped

FILES = class_files()
CHOSEN = ("ant/1.png", "cat/0.png", "dog/3.png")


def in_folder(root: Path) -> Path:
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.mark.parametrize(
    ("make", "written"),
    [
        (lambda path: zipped(path / "x", FILES), "out.zip"),
        (lambda path: tarred(path / "x", FILES), "out.tar"),
        (lambda path: tarred(path / "x", FILES, "w:gz"), "out.tar.gz"),
        (lambda path: tarred(path / "x", FILES, "w:xz"), "out.tar.xz"),
        (lambda path: in_folder(path / "x"), "out"),
    ],
    ids=["zip", "tar", "gzip", "xz", "folder"],
)
def test_files_keep_their_names_and_the_set_its_form(
    make: Callable[[Path], Path], written: str, tmp_path: Path
) -> None:
    source = make(tmp_path)
    path = write_subset(source, CHOSEN, tmp_path / "out")
    assert path == tmp_path / written and path.is_dir() == source.is_dir()
    images, whole = load_images(path, SIZE, minimum=3), load_images(source, SIZE, minimum=12)
    assert images.names == CHOSEN and not images.rejected
    assert all(images.pixels[i].equal(whole.pixels[whole.names.index(name)]) for i, name in enumerate(CHOSEN))
    again = write_subset(source, CHOSEN, tmp_path / "again")
    assert path.is_dir() or again.read_bytes() == path.read_bytes() or written.endswith("gz")  # gzip notes the time


def test_what_stands_beside_an_image_goes_with_it(tmp_path: Path) -> None:
    samples = {f"{i}.{kind}": data for i in range(3) for kind, data in (("png", picture(i)), ("cls", b"%d" % i))}
    path = write_subset(tarred(tmp_path / "x", samples), ("0.png", "2.png"), tmp_path / "out")
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["0.png", "0.cls", "2.png", "2.cls"]
        member = archive.extractfile("2.cls")
        assert member is not None and member.read() == b"2"


def test_each_shard_keeps_its_own(tmp_path: Path) -> None:
    root = tmp_path / "shards"
    root.mkdir()
    tarred(root / "a.tar", {f"{i}.png": picture(i) for i in range(3)})
    tarred(root / "b.tar.gz", {f"{i}.png": picture(i) for i in range(3, 6)}, "w:gz")
    tarred(root / "c.tar", {"6.png": picture(6)})
    kept = ("a.tar!/0.png", "a.tar!/2.png", "b.tar.gz!/4.png")
    path = write_subset(root, kept, tmp_path / "out")
    assert sorted(each.name for each in path.iterdir()) == ["a.tar", "b.tar.gz"]
    assert load_images(path, SIZE, minimum=3).names == kept


@pytest.mark.parametrize("first", [False, True])
def test_an_array_keeps_its_name(first: bool, tmp_path: Path) -> None:
    images = np.stack([pixels(seed, (16, 12)) for seed in range(5)])
    stored = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if first else images
    np.savez(tmp_path / "x.npz", train=stored, labels=np.arange(5))
    path = write_subset(tmp_path / "x.npz", ("image-00000001", "image-00000004"), tmp_path / "out")
    with np.load(path, allow_pickle=False) as saved:
        assert saved.files == ["train"]
        np.testing.assert_array_equal(saved["train"], images[[1, 4]])


def test_rows_stay_whole(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow", exc_type=ImportError), pytest.importorskip("pyarrow.parquet")
    table = pa.table(
        {"image": [{"bytes": picture(i), "path": f"{i}.png"} for i in range(40)], "label": list(range(40))}
    )
    parquet.write_table(table, tmp_path / "x", row_group_size=15)
    kept = (2, 14, 15, 39)
    path = write_subset(tmp_path / "x", tuple(f"row-{row:08d}" for row in kept), tmp_path / "out")
    assert path.name == "out.parquet"
    assert parquet.read_table(path).equals(table.take(list(kept)))


def test_most_images_have_the_usual_size(tmp_path: Path) -> None:
    sizes = [(16, 24), (16, 24), (40, 40), (32, 32)]
    files = {f"{i}.png": picture(i, size) for i, size in enumerate(sizes)} | {"readme.txt": b"no image"}
    assert usual_size(zipped(tmp_path / "x", files)) == (16, 24)
    even = zipped(tmp_path / "even", {"0.png": picture(0, (40, 40)), "1.png": picture(1, (32, 32))})
    assert usual_size(even) == (32, 32)
    assert usual_size(zipped(tmp_path / "none", {"readme.txt": b"no image"})) == (8, 8)
