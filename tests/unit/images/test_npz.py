"""Images in an array of a NumPy file."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.errors import AuditError, UnsupportedInput
from core.images import archive
from core.images.archive import MAX_MEMBER_BYTES
from core.images.labelled import load_labelled
from core.images.load import load_images
from core.images.npz_arrays import open_npz
from core.images.zip_archive import open_zip
from tests.unit.images.pictures import SIZE, pixels

COUNT = 12


def array(count: int = COUNT, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    return np.stack([pixels(seed, size) for seed in range(count)])


def saved(path: Path, **arrays: NDArray[np.generic]) -> Path:
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(UnsupportedInput) as caught:
        load_images(path, SIZE, minimum=1)
    assert caught.value.problem.sentence().isprintable()
    return caught.value.problem.code, caught.value.problem.found


def test_pixels_names_and_order(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.bin", images=array(), labels=np.arange(COUNT))
    images = load_images(path, SIZE, minimum=COUNT)
    assert images.names[:2] == ("image-00000000", "image-00000001")
    assert torch.equal(images.pixels, torch.from_numpy(array().transpose(0, 3, 1, 2)))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_both_orders_of_axes_and_compression_are_the_same_set(tmp_path: Path, save: object) -> None:
    save(tmp_path / "last.npz", x=array())  # type: ignore[operator]
    save(tmp_path / "first.npz", x=np.ascontiguousarray(array().transpose(0, 3, 1, 2)))  # type: ignore[operator]
    last, first = (load_images(tmp_path / f"{name}.npz", SIZE, minimum=COUNT) for name in ("last", "first"))
    assert last.digest == first.digest == load_images(saved(tmp_path / "x", y=array()), SIZE, minimum=1).digest


def test_images_are_resized_like_files(tmp_path: Path) -> None:
    flat = np.full((3, 20, 40, 3), (200, 100, 50), dtype=np.uint8)
    images = load_images(saved(tmp_path / "x.npz", x=flat), (10, 10), minimum=3)
    assert images.pixels.shape == (3, 3, 10, 10)
    assert images.pixels[0, :, 5, 5].tolist() == [200, 100, 50]


def test_images_can_be_read_in_any_order(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=array())
    with open_zip(tmp_path / "x.npz") as zipped, open_npz(zipped) as members:
        for index in (7, 2, 11, 0):
            assert members.read(f"image-{index:08d}") == b"P6 16 16 255\n" + array()[index].tobytes()


def test_images_that_are_too_small_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", x=array(2, (4, 4)))
    assert refusal(path) == (
        "too_few_images",
        "0 usable images in x.npz, 2 files rejected (image-00000000: 4x4 pixels; at least 8x8 are needed; "
        "image-00000001: 4x4 pixels; at least 8x8 are needed)",
    )


def test_two_arrays_of_images_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", x_train=array(), x_test=array(3))
    code, found = refusal(path)
    assert code == "ambiguous_image_data"
    assert "'x_train' |u1 [12, 16, 16, 3]" in found and "'x_test' |u1 [3, 16, 16, 3]" in found


@pytest.mark.parametrize(
    "other",
    [array().astype(np.complex64), array()[..., :2], array()[0], np.array([{"a": 1}], dtype=object)],
    ids=["complex", "two channels", "one image", "pickled objects"],
)
def test_an_array_that_is_no_images_is_named(tmp_path: Path, other: NDArray[np.generic]) -> None:
    code, found = refusal(saved(tmp_path / "x.npz", features=other))
    assert code == "no_image_data"
    assert f"'features' {other.dtype.str} {list(other.shape)}" in found


def test_fortran_order_is_explained(tmp_path: Path) -> None:
    code, found = refusal(saved(tmp_path / "x.npz", x=np.asfortranarray(array())))
    assert code == "no_image_data"
    assert "Fortran" in found


def test_there_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInput) as caught:
        load_labelled(saved(tmp_path / "x.npz", images=array(), labels=np.arange(COUNT)), SIZE, minimum=1)
    assert caught.value.problem.code == "no_classes"
    assert "Labels are needed" in caught.value.problem.action


def with_header(shape: tuple[int, ...], body: bytes) -> bytes:
    """An array whose header says ``shape``."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue() + body


def npz(path: Path, member: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x.npy", member)
    return path


@pytest.mark.parametrize("shape", [(10**9, 16, 16, 3), (2, 10**6, 10**6, 3), (10**30, 16, 16, 3), (1, 16, 16, 3)])
def test_a_header_that_says_another_size_than_there_is(tmp_path: Path, shape: tuple[int, ...]) -> None:
    code, _ = refusal(npz(tmp_path / "x.npz", with_header(shape, bytes(2 * 768))))
    assert code == ("zip_bomb" if shape[0] > 10**6 else "truncated_archive")


@pytest.mark.parametrize("shape", [(-1, 16, 16, 3), (2, -16, -16, 3)])
def test_negative_sides(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert refusal(npz(tmp_path / "x.npz", with_header(shape, bytes(768))))[0] == "truncated_archive"


def test_images_without_pixels(tmp_path: Path) -> None:
    assert refusal(npz(tmp_path / "x.npz", with_header((1000, 0, 0, 3), b"")))[0] == "no_images"


@pytest.mark.parametrize("member", [b"", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", b"\x93NUMPY\x01\x00\x04\x00(((("])
def test_damaged_headers(tmp_path: Path, member: bytes) -> None:
    assert refusal(npz(tmp_path / "x.npz", member))[0] == "truncated_archive"


def test_a_small_file_that_unpacks_to_much(tmp_path: Path) -> None:
    body = bytes(3000 * 768)
    path = npz(tmp_path / "x.npz", with_header((3000, 16, 16, 3), body), zipfile.ZIP_DEFLATED)
    assert refusal(path)[0] == "zip_bomb"


def test_too_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", COUNT - 1)
    assert refusal(saved(tmp_path / "x.npz", x=array()))[0] == "zip_bomb"


def test_an_image_too_large_is_named_and_not_read(tmp_path: Path) -> None:
    side = 4800
    path = saved(tmp_path / "x.npz", x=np.ones((1, side, side, 3), dtype=np.uint8))
    assert side * side * 3 > MAX_MEMBER_BYTES
    assert "larger than 64 MiB" in refusal(path)[1]


def test_damage_in_one_image_refuses_all_because_one_checksum_stands_for_all(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.npz", x=array(200))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert refusal(path) == ("truncated_archive", "an npz whose images are damaged")


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 1500), st.integers(0, 255))
def test_a_damaged_npz_is_refused(tmp_path_factory: pytest.TempPathFactory, position: int, byte: int) -> None:
    path = saved(tmp_path_factory.mktemp("npz") / "x.npz", x=array(1))
    data = bytearray(path.read_bytes())
    changed = data[position % len(data)] != byte
    data[position % len(data)] = byte
    path.write_bytes(data)
    try:
        images = load_images(path, SIZE, minimum=1)
    except AuditError:
        images = None
    # The zip has fields, dates say, that mean nothing here: then nothing else may be different.
    assert images is None or images.pixels[0].equal(torch.from_numpy(array(1)[0].transpose(2, 0, 1)))
    assert images is not None or changed
