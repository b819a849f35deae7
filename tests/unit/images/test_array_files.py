"""Arrays of images in npy, idx and npz files: shapes, kinds of numbers, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from core.errors import UnsupportedInput
from core.images.load import load_images
from core.images.sizes import usual_size
from tests.unit.images.pictures import SIZE, idx, npy, pixels

COUNT = 6
ARRAY = np.stack([pixels(seed) for seed in range(COUNT)])
EXPECTED = torch.from_numpy(ARRAY.transpose(0, 3, 1, 2).copy())


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def refusal(path: Path) -> tuple[str, str, str]:
    with pytest.raises(UnsupportedInput) as caught:
        load_images(path, SIZE, minimum=1)
    assert caught.value.problem.sentence().isprintable()
    return caught.value.problem.code, caught.value.problem.found, caught.value.problem.action


@pytest.mark.parametrize(
    "array",
    [
        ARRAY,
        ARRAY.transpose(0, 3, 1, 2),
        ARRAY.astype(np.int64),
        ARRAY.astype(">i4"),
        ARRAY.astype(np.float32) / 255,
        (ARRAY / 255).astype(">f8"),
        ARRAY.astype(np.float16),
    ],
    ids=["NHWC", "NCHW", "int64", "big endian", "float32 in [0, 1]", "float64 big endian", "float16 in [0, 255]"],
)
@pytest.mark.parametrize("form", ["npy", "npz"])
def test_orders_of_axes_and_kinds_of_numbers(tmp_path: Path, form: str, array: NDArray[np.generic]) -> None:
    array = np.ascontiguousarray(array)
    if form == "npy":
        saved(tmp_path / "x", npy(array))
    else:
        with (tmp_path / "x").open("wb") as file:
            np.savez_compressed(file, images=array, labels=np.arange(COUNT))
    images = load_images(tmp_path / "x", SIZE, minimum=COUNT)
    assert torch.equal(images.pixels, EXPECTED)
    assert images.names[:2] == ("image-00000000", "image-00000001")
    assert len(images.notes) == (array.dtype.kind == "f")


@pytest.mark.parametrize("array", [ARRAY[..., 0], ARRAY[..., :1], ARRAY[:, None, ..., 0]], ids=["NHW", "NHW1", "N1HW"])
def test_grey_images(tmp_path: Path, array: NDArray[np.uint8]) -> None:
    images = load_images(saved(tmp_path / "x", npy(np.ascontiguousarray(array))), SIZE, minimum=COUNT)
    assert torch.equal(images.pixels, EXPECTED[:, :1].expand(-1, 3, -1, -1))


def test_images_of_two_levels(tmp_path: Path) -> None:
    images = load_images(saved(tmp_path / "x", npy(ARRAY[..., 0] > 127)), SIZE, minimum=COUNT)
    assert images.pixels.unique().tolist() == [0, 255]


def test_twelve_bits_are_read_as_such_and_said(tmp_path: Path) -> None:
    images = load_images(saved(tmp_path / "x", npy(ARRAY.astype(np.uint16) << 4)), SIZE, minimum=COUNT)
    assert torch.equal(images.pixels, EXPECTED)
    assert "as of 12" in images.notes[0]


@pytest.mark.parametrize("packed", [False, True])
def test_mnist(tmp_path: Path, packed: bool) -> None:
    content = idx(np.ascontiguousarray(ARRAY[..., 0]))
    path = saved(tmp_path / "train-images-idx3-ubyte", gzip.compress(content) if packed else content)
    assert torch.equal(load_images(path, SIZE, minimum=COUNT).pixels, EXPECTED[:, :1].expand(-1, 3, -1, -1))
    assert usual_size(path) == SIZE
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name]


def test_labels_are_named_as_such(tmp_path: Path) -> None:
    code, found, action = refusal(saved(tmp_path / "train-labels-idx1-ubyte", idx(np.arange(200, dtype=np.uint8))))
    assert code == "no_image_data" and "200 labels" in found and "train-images-idx3-ubyte" in action


CONVERTED = {
    "objects": np.array([None, *ARRAY], dtype=object)[1:],
    "flat": ARRAY.transpose(0, 3, 1, 2).reshape(COUNT, -1),
    "four channels": np.concatenate([ARRAY, ARRAY[..., :1]], axis=3),
    "Fortran order": np.asfortranarray(ARRAY),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_the_line_that_a_refusal_gives_works(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, action = refusal(saved(tmp_path / "x.npy", npy(CONVERTED[case])))
    assert code == "no_image_data"
    line = action[action.index("numpy.save(") : action.rindex(")") + 1].replace("32", "16")
    monkeypatch.chdir(tmp_path)
    exec(line, {"numpy": np, "x": np.load("x.npy", allow_pickle=True)})
    assert torch.equal(load_images(tmp_path / "images.npy", SIZE, minimum=COUNT).pixels, EXPECTED)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (ARRAY.astype(np.float32) / 255 - 0.5, "normalisation"),
        (ARRAY.astype(np.int16) - 3, "normalisation"),
        (ARRAY.astype(np.float64) * 1e6, "x.max()"),
        (np.full(ARRAY.shape, np.nan), "Leave"),
    ],
)
def test_values_that_are_no_pixels_are_named_with_a_remedy(
    tmp_path: Path, array: NDArray[np.generic], word: str
) -> None:
    code, found, action = refusal(saved(tmp_path / "x.npy", npy(array)))
    assert code == "no_image_data" and "with values" in found and word in action


def test_masks_in_bytes_are_not_taken_before_colours_in_floats(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        np.savez(file, images=ARRAY / 255, masks=ARRAY[..., 0])
    assert refusal(tmp_path / "x")[0] == "ambiguous_image_data"


@pytest.mark.parametrize("content", [npy(ARRAY), idx(ARRAY)], ids=["npy", "idx"])
def test_a_file_that_is_cut_off(tmp_path: Path, content: bytes) -> None:
    assert refusal(saved(tmp_path / "x", content[:-1]))[0] == "truncated_archive"
    assert refusal(saved(tmp_path / "x", content[:12]))[0] in ("truncated_archive", "not_an_archive")


def test_an_idx_file_that_claims_more_than_there_can_be(tmp_path: Path) -> None:
    path = saved(tmp_path / "x", bytes((0, 0, 8, 3)) + b"\xff" * 12)
    assert refusal(path)[0] == "zip_bomb"


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"MATLAB 5.0 MAT-file", ("MATLAB", "loadmat")),
        (b"\x89HDF\r\n\x1a\n", ("HDF5", "h5py")),
        (b"Rar!\x1a\x07", ("RAR", "unrar")),
        (b"\x89PNG\r\n\x1a\n", ("one picture", "folder")),
    ],
)
def test_other_files_are_named_with_what_to_do(tmp_path: Path, start: bytes, words: tuple[str, str]) -> None:
    code, found, action = refusal(saved(tmp_path / "x", start + bytes(600)))
    assert code == "not_an_archive" and words[0] in found and words[1] in action


def test_the_line_for_matlab_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import scipy.io

    scipy.io.savemat(tmp_path / "svhn.mat", {"X": ARRAY.transpose(1, 2, 3, 0)})
    _, _, action = refusal(tmp_path / "svhn.mat")
    monkeypatch.chdir(tmp_path)
    exec(action.split('python -c "')[1].split('"')[0].replace("FILE", "svhn.mat"), {})
    assert torch.equal(load_images(tmp_path / "images.npy", SIZE, minimum=COUNT).pixels, EXPECTED)


def test_the_line_for_a_tensor_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(EXPECTED, tmp_path / "x.pt")
    code, found, action = refusal(tmp_path / "x.pt")
    assert code == "not_an_archive" and "PyTorch" in found
    monkeypatch.chdir(tmp_path)
    exec(action.split('python -c "')[1].split('"')[0].replace("FILE", "x.pt"), {})
    assert torch.equal(load_images(tmp_path / "images.npy", SIZE, minimum=COUNT).pixels, EXPECTED)
