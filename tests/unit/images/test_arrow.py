"""Images in Arrow files and streams, and in the folders that Hugging Face's ``datasets`` writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import AuditError, UnsupportedInput, UsageError
from core.images.load import load_images
from core.images.sizes import usual_size
from core.images.subset import write_subset
from tests.unit.images.pictures import SIZE, picture, zipped

COUNT = 12
FILES = [picture(seed) for seed in range(COUNT)]
TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FEATURES = {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a", "b"]}}}}


def table(files: list[bytes | None] = FILES) -> Any:  # type: ignore[assignment]
    images = pa.array([{"bytes": data, "path": None} for data in files], TYPE)
    found = pa.table({"image": images, "label": pa.array([0] * len(files), pa.int64())})
    return found.replace_schema_metadata({"huggingface": json.dumps(FEATURES)})


def written(path: Path, content: Any, new: Any = pa.ipc.new_stream, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with new(path, content.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(content, max_chunksize=5)
    return path


def hugging_face_folder(root: Path) -> Path:
    """What ``Dataset.save_to_disk(root, num_shards=2)`` leaves."""
    for shard in range(2):
        written(root / f"data-{shard:05d}-of-00002.arrow", table(FILES[shard * 6 : shard * 6 + 6]))
    (root / "dataset_info.json").write_text("{}")
    (root / "state.json").write_text('{"_data_files": []}')
    return root


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(UnsupportedInput) as caught:
        load_images(path, SIZE, minimum=1)
    return caught.value.problem.code, caught.value.problem.action


@pytest.mark.parametrize("new", [pa.ipc.new_stream, pa.ipc.new_file], ids=["stream", "file"])
def test_rows_are_the_images_of_a_zip(tmp_path: Path, new: Any) -> None:
    images = load_images(written(tmp_path / "x", table(), new), SIZE, minimum=COUNT)
    same = zipped(tmp_path / "x.zip", {f"row-{i:08d}": data for i, data in enumerate(FILES)})
    assert images.digest == load_images(same, SIZE, minimum=COUNT).digest
    assert usual_size(tmp_path / "x") == SIZE


def test_the_folder_of_a_hugging_face_set(tmp_path: Path) -> None:
    images = load_images(hugging_face_folder(tmp_path / "set"), SIZE, minimum=COUNT)
    assert len(images) == COUNT
    assert images.names[6] == "data-00001-of-00002.arrow!/row-00000000"
    assert {image.name for image in images.rejected} == {"dataset_info.json", "state.json"}


def test_the_same_folder_as_a_zip_with_splits(tmp_path: Path) -> None:
    folder = hugging_face_folder(tmp_path / "set")
    files = {f"set/{split}/{file.name}": file.read_bytes() for split in ("train", "test") for file in folder.iterdir()}
    images = load_images(zipped(tmp_path / "set.zip", files), SIZE, minimum=2 * COUNT)
    assert images.names[0] == "set/test/data-00000-of-00002.arrow!/row-00000000"
    assert images.distinct == COUNT


def test_a_subset_of_a_folder_keeps_rows_whole(tmp_path: Path) -> None:
    folder = hugging_face_folder(tmp_path / "set")
    names = ["data-00000-of-00002.arrow!/row-00000002", "data-00001-of-00002.arrow!/row-00000005"]
    output = write_subset(folder, names, tmp_path / "out")
    images = load_images(output, SIZE, minimum=2)
    assert torch.equal(images.pixels, load_images(folder, SIZE, minimum=1).pixels[[2, 11]])
    with pa.ipc.open_stream(str(output / "data-00001-of-00002.arrow")) as reader:
        assert reader.read_all().column_names == ["image", "label"]


def test_rows_without_an_image_are_named(tmp_path: Path) -> None:
    (rejected,) = load_images(written(tmp_path / "x", table([*FILES, None])), SIZE, minimum=COUNT).rejected
    assert (rejected.name, rejected.reason) == ("row-00000012", "no image file in this row")


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_compressed_file_is_refused_with_a_line_that_works(
    compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, action = refusal(written(tmp_path / "x.arrow", table(), compression=compression))
    assert code == "no_image_data"
    monkeypatch.chdir(tmp_path)
    exec(action.split('python -c "')[1].rsplit('"', 1)[0].replace("FILE", "x.arrow"), {})
    assert len(load_images(tmp_path / "images.parquet", SIZE, minimum=COUNT)) == COUNT


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    content = written(tmp_path / "x", table()).read_bytes()
    for kept in (20, 300, len(content) // 2, len(content) - 12):
        (tmp_path / "x").write_bytes(content[:kept])
        assert refusal(tmp_path / "x")[0] == "truncated_archive"


def test_a_table_without_images(tmp_path: Path) -> None:
    assert refusal(written(tmp_path / "x", pa.table({"label": [1, 2]})))[0] == "no_image_data"


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "x", table())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError) as caught:
        load_images(path, SIZE)
    assert "encoder-audit[parquet]" in caught.value.problem.action


@settings(deadline=None, max_examples=120)
@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_damaged_file_is_refused_or_its_images_are_named(
    tmp_path_factory: pytest.TempPathFactory, position: int, byte: int
) -> None:
    path = written(tmp_path_factory.mktemp("arrow") / "x", table(FILES[:3]))
    data = bytearray(path.read_bytes())
    data[position % min(len(data), 2500)] = byte
    path.write_bytes(data)
    try:
        images = load_images(path, SIZE, minimum=0)
        outcome: object = len(images) + len(images.rejected) <= 3
    except AuditError as error:
        outcome = error.problem.field
    assert outcome in (True, "images")
