"""The service's look at uploaded images: it lets through what core opens, and says what certainly cannot be read."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from api.errors import RequestProblem
from api.image_preflight import ImageForm, check_images, form_of
from api.quarantine import ArrivedFile
from core.images.load import load_images
from tests.unit.images.pictures import SIZE, idx, npy, picture, pixels, tarred, zipped

FILES = {f"{i}.png": picture(i) for i in range(5)}
ARRAY = np.stack([pixels(i) for i in range(5)])


def arrived(path: Path) -> ArrivedFile:
    content = path.read_bytes()
    return ArrivedFile(path.name, path, len(content), hashlib.sha256(content).hexdigest())


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(RequestProblem) as caught:
        check_images(arrived(path))
    (fault,) = caught.value.faults
    assert caught.value.status == 422
    assert fault.pointer == "/images"
    assert fault.expected and fault.action
    return caught.value.code, fault.detail


def npz(path: Path) -> Path:
    with path.open("wb") as file:
        np.savez(file, x=np.ones((5, *SIZE, 3), dtype=np.uint8))
    return path


@pytest.mark.parametrize(
    ("form", "write"),
    [
        (ImageForm.ZIP, lambda path: zipped(path, FILES)),
        (ImageForm.ZIP, npz),
        (ImageForm.TAR, lambda path: tarred(path, FILES)),
        (ImageForm.ARRAY, lambda path: written(path, npy(ARRAY))),
        (ImageForm.IDX, lambda path: written(path, idx(ARRAY[..., 0]))),
        (ImageForm.GZIP, lambda path: written(path, gzip.compress(idx(ARRAY[..., 0])))),
        (ImageForm.PICKLE, lambda path: written(path, pickle.dumps({"data": ARRAY}, 4))),
        (ImageForm.GZIP, lambda path: tarred(path, {"batches/data_batch_1": pickle.dumps({"data": ARRAY}, 2)}, "w:gz")),
        (ImageForm.GZIP, lambda path: tarred(path, FILES, "w:gz")),
        (ImageForm.BZIP2, lambda path: tarred(path, FILES, "w:bz2")),
        (ImageForm.XZ, lambda path: tarred(path, FILES, "w:xz")),
    ],
    ids=["zip", "npz", "tar", "npy", "idx", "idx.gz", "pickle", "cifar.tar.gz", "tar.gz", "tar.bz2", "tar.xz"],
)
def test_what_core_opens_passes_under_any_name(tmp_path: Path, form: ImageForm, write: object) -> None:
    path = write(tmp_path / "images")  # type: ignore[operator]
    assert form_of(path) is form
    check_images(arrived(path))
    assert len(load_images(path, SIZE, minimum=5)) == 5


def test_a_parquet_file_passes(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow", exc_type=ImportError), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"image": list(FILES.values())}), tmp_path / "images")
    assert form_of(tmp_path / "images") is ImageForm.PARQUET
    check_images(arrived(tmp_path / "images"))


def test_an_arrow_file_passes(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", exc_type=ImportError)
    table = pa.table({"image": list(FILES.values())})
    for name, new in (("stream", pa.ipc.new_stream), ("file", pa.ipc.new_file)):
        with new(tmp_path / name, table.schema) as writer:
            writer.write_table(table)
        assert form_of(tmp_path / name) is ImageForm.ARROW
        check_images(arrived(tmp_path / name))
        assert len(load_images(tmp_path / name, SIZE, minimum=5)) == 5


def test_a_block_of_bzip2_that_hardly_compresses_is_seen_whole(tmp_path: Path) -> None:
    files = {"noise.bmp": np.random.default_rng(0).bytes(2_000_000)}
    check_images(arrived(tarred(tmp_path / "x", files, "w:bz2")))


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def tar_bytes(folder: Path) -> bytes:
    return tarred(folder / "whole.tar", FILES).read_bytes()


@pytest.mark.parametrize("content", [b"hello world", bytes(100), picture(), b"\x80\x04", b"A" * 4096])
def test_other_files(tmp_path: Path, content: bytes) -> None:
    assert refusal(written(tmp_path / "x", content))[0] == "not_an_archive"


def test_a_tar_without_its_end(tmp_path: Path) -> None:
    content = tar_bytes(tmp_path).rstrip(b"\0")
    assert refusal(written(tmp_path / "x", content)) == (
        "truncated_archive",
        "The tar archive has no end: it is incomplete.",
    )


def test_a_tar_without_files(tmp_path: Path) -> None:
    assert refusal(tarred(tmp_path / "x", {}))[0] == "no_images"
    assert refusal(tarred(tmp_path / "y", {}, "w:gz"))[0] == "no_images"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_that_are_no_tar(tmp_path: Path, compress: object) -> None:
    packed = compress(picture() * 3)  # type: ignore[operator]
    assert refusal(written(tmp_path / "x", packed)) == (
        "not_an_archive",
        "The compressed file holds neither a tar archive nor an array of images.",
    )


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08", b"BZh9", b"\xfd7zXZ\0"])
def test_compressed_files_that_are_damaged_from_the_start(tmp_path: Path, start: bytes) -> None:
    assert refusal(written(tmp_path / "x", start + b"nonsense" * 100))[0] == "truncated_archive"


def test_zstandard_where_python_cannot_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    assert refusal(written(tmp_path / "x", b"\x28\xb5\x2f\xfd" + bytes(100)))[0] == "unsupported_compression"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"PAR1", "truncated_archive"),
        (b"PAR1PAR1", "truncated_archive"),
        (b"PAR1" + bytes(100), "truncated_archive"),
        (b"PAR1" + bytes(100) + b"\xff\0\0\0PAR1", "truncated_archive"),
        (b"PARE" + bytes(100) + b"\x20\0\0\0PARE", "encrypted_archive"),
    ],
)
def test_parquet_files_that_cannot_be_read(tmp_path: Path, content: bytes, code: str) -> None:
    assert refusal(written(tmp_path / "x", content))[0] == code


def test_zips(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "whole", FILES).read_bytes()
    assert refusal(written(tmp_path / "cut", whole[:-30]))[0] == "truncated_zip"
    assert refusal(zipped(tmp_path / "empty", {}))[0] == "no_images"
