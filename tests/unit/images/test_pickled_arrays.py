"""CIFAR's pickles are read, and no pickle is run."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import AuditError, UnsupportedInput
from core.images.labelled import load_labelled
from core.images.load import load_images
from core.images.sizes import usual_size
from core.images.subset import write_subset
from tests.unit.images.pictures import npy, pixels, tarred, zipped

SIZE = (32, 32)
COUNT = 8
ARRAY = np.stack([pixels(seed, SIZE) for seed in range(COUNT)])
ROWS = np.ascontiguousarray(ARRAY.transpose(0, 3, 1, 2).reshape(COUNT, -1))
EXPECTED = torch.from_numpy(ARRAY.transpose(0, 3, 1, 2).copy())


def by_python_2(rows: np.ndarray[Any, Any]) -> bytes:
    """A batch as CIFAR's page has it: protocol 2, written by Python 2, whose strings are bytes."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes((len(value),)) + value

    def number(value: int) -> bytes:
        return b"M" + value.to_bytes(2, "little")

    raw, count = rows.tobytes(), len(rows)
    dtype = b"cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87Rq\x09(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    empty = b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x0aK\x00\x85U\x01b\x87Rq\x0b"
    state = b"(K\x01" + number(count) + number(rows.shape[1]) + b"\x86" + dtype + b"\x89T"
    return b"".join(
        [
            *(b"\x80\x02}q\x01(", text(b"batch_label"), b"q\x02", text(b"training batch 1 of 5"), b"q\x03"),
            *(text(b"labels"), b"q\x04]q\x05(", b"K\x03" * count, b"e"),
            *(text(b"data"), b"q\x06", empty, state, len(raw).to_bytes(4, "little"), raw, b"tb"),
            *(text(b"filenames"), b"q\x0c]q\x0d(", *(text(b"%d.png" % i) for i in range(count)), b"eu."),
        ]
    )


def saved(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def refusal(path: Path) -> tuple[str, str, str]:
    with pytest.raises(UnsupportedInput) as caught:
        load_images(path, SIZE, minimum=1)
    assert caught.value.problem.sentence().isprintable()
    return caught.value.problem.code, caught.value.problem.found, caught.value.problem.action


def test_the_batch_that_this_file_writes_is_what_python_reads() -> None:
    assert np.array_equal(pickle.loads(by_python_2(ROWS), encoding="bytes")[b"data"], ROWS)


def test_one_batch_of_cifar(tmp_path: Path) -> None:
    path = saved(tmp_path / "data_batch_1", by_python_2(ROWS))
    assert torch.equal(load_images(path, SIZE, minimum=COUNT).pixels, EXPECTED)
    assert usual_size(path) == SIZE


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("key", ["data", b"data", "image_data"])
def test_every_protocol_of_python_3(tmp_path: Path, protocol: int, key: object) -> None:
    path = saved(tmp_path / "x", pickle.dumps({"labels": [1] * COUNT, key: ROWS, "mean": ROWS.mean(0)}, protocol))
    assert torch.equal(load_images(path, SIZE, minimum=COUNT).pixels, EXPECTED)


def test_other_shapes(tmp_path: Path) -> None:
    for value in (ARRAY, {"images": ARRAY.transpose(0, 3, 1, 2).copy()}):
        path = saved(tmp_path / "x", pickle.dumps(value, 4))
        assert torch.equal(load_images(path, SIZE, minimum=COUNT).pixels, EXPECTED)


BATCHES = {
    "cifar-10-batches-py/data_batch_1": by_python_2(ROWS[:5]),
    "cifar-10-batches-py/data_batch_2": by_python_2(ROWS[5:7]),
    "cifar-10-batches-py/test_batch": by_python_2(ROWS[7:]),
    "cifar-10-batches-py/batches.meta": pickle.dumps({"label_names": ["cat", "dog"], "num_vis": 3072}, 2),
    "cifar-10-batches-py/readme.html": b"<meta>",
}


@pytest.mark.parametrize("form", ["folder", "tar.gz", "zip"])
def test_cifar_as_it_is_downloaded(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"x.{form}"
    if form == "folder":
        for name, content in BATCHES.items():
            saved(path / name, content)
    elif form == "zip":
        zipped(path, BATCHES)
    else:
        tarred(path, BATCHES, "w:gz")
    images = load_images(path, SIZE, minimum=COUNT)
    assert torch.equal(images.pixels, EXPECTED)
    assert images.names[5] == "cifar-10-batches-py/data_batch_2!/image-00000000"
    assert sorted(image.name.split("/")[1] for image in images.rejected) == ["batches.meta", "readme.html"]
    assert usual_size(path) == SIZE
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {MARK}",))


MARK = Path("/nowhere")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_hostile_pickle_is_refused_and_not_run(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "MARK", tmp_path / "ran")
    path = saved(tmp_path / "x", pickle.dumps({"data": Hostile()}, protocol))
    code, found, action = refusal(path)
    assert code == "unsafe_archive" and "system" in found and "pickle.load" in action
    assert not (tmp_path / "ran").exists()
    # Beside good batches it costs itself only.
    folder = saved(tmp_path / "set" / "data_batch_1", by_python_2(ROWS)).parent
    saved(folder / "evil", path.read_bytes())
    images = load_images(folder, SIZE, minimum=COUNT)
    assert len(images) == COUNT and "system" in images.rejected[0].reason
    assert not (tmp_path / "ran").exists()


def test_the_line_that_the_refusal_gives_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x", pickle.dumps({"data": ROWS, "set": {1, 2}}, 4))
    code, _, action = refusal(path)
    assert code == "unsafe_archive"
    monkeypatch.chdir(tmp_path)
    exec(action.split('python -c "')[1].rsplit('"', 1)[0].replace("FILE", "x"), {})
    assert torch.equal(load_images(tmp_path / "images.npy", SIZE, minimum=COUNT).pixels, EXPECTED)


def test_keys_that_take_for_ever_are_refused(tmp_path: Path) -> None:
    bomb = b"\x80\x02}(" + b")" + b"2\x86" * 60 + b"K\x01u."  # 2^60 empty tuples, as a key
    assert refusal(saved(tmp_path / "x", bomb))[0] in ("truncated_archive", "unsafe_archive")


def test_an_array_that_claims_more_than_it_has(tmp_path: Path) -> None:
    data = by_python_2(ROWS).replace(b"M\x08\x00M\x00\x0c", b"M\xff\x00M\x00\x0c")
    assert refusal(saved(tmp_path / "x", data))[0] == "truncated_archive"


def test_a_pickle_without_images(tmp_path: Path) -> None:
    assert refusal(saved(tmp_path / "x", pickle.dumps({"a": [1, 2]}, 2)))[0] == "no_image_data"


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 600), st.integers(0, 255))
def test_a_damaged_pickle_is_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int
) -> None:
    data = bytearray(by_python_2(ROWS[:2]))
    data[position] = byte
    path = saved(tmp_path_factory.mktemp("pickle") / "x", bytes(data))
    try:
        outcome: object = len(load_images(path, SIZE, minimum=0))
    except AuditError as error:
        outcome = error.problem.field
    assert outcome in (0, 1, 2, "images")


def test_pickletools_agrees_that_these_are_pickles() -> None:
    pickletools.dis(by_python_2(ROWS[:1]), out=io.StringIO())
    assert npy(ROWS)[:1] == b"\x93"


def test_a_subset_of_cifar_as_it_is_downloaded_is_a_zip_of_pictures(tmp_path: Path) -> None:
    path = tarred(tmp_path / "cifar.tar.gz", BATCHES, "w:gz")
    names = load_images(path, SIZE, minimum=COUNT).names
    output = write_subset(path, [names[0], names[6]], tmp_path / "out")
    images = load_images(output, SIZE, minimum=2)
    assert output.name == "out.zip" and torch.equal(images.pixels, EXPECTED[[0, 6]])
    assert images.names[1] == "cifar-10-batches-py/data_batch_2/image-00000001.png"


def test_a_subset_of_a_folder_of_batches_is_a_folder_of_arrays(tmp_path: Path) -> None:
    for name, content in BATCHES.items():
        saved(tmp_path / "set" / name, content)
    names = load_images(tmp_path / "set", SIZE, minimum=COUNT).names
    output = write_subset(tmp_path / "set", [names[0], names[6]], tmp_path / "out")
    assert torch.equal(load_images(output, SIZE, minimum=2).pixels, EXPECTED[[0, 6]])
    assert (output / "cifar-10-batches-py" / "data_batch_2.npy").is_file()


def test_batches_are_no_class_folders(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInput) as caught:
        load_labelled(tarred(tmp_path / "cifar.tar.gz", BATCHES, "w:gz"), SIZE, minimum=1)
    assert caught.value.problem.code == "no_classes"
