"""Images in a column of a Parquet file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from core.errors import UnsupportedInput, UsageError
from core.images import archive, parquet_table
from core.images.labelled import load_labelled
from core.images.load import load_images
from core.images.parquet_table import open_parquet
from tests.unit.images.pictures import SIZE, picture, zipped

pa = pytest.importorskip("pyarrow", exc_type=ImportError)
parquet = pytest.importorskip("pyarrow.parquet", exc_type=ImportError)

COUNT = 50
FILES = [picture(seed) for seed in range(COUNT)]
STRUCT = [{"bytes": data, "path": f"cat/{i}.png"} for i, data in enumerate(FILES)]
HUGGING_FACE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def written(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pa.table(columns), path, **options)
    return path


def as_images(files: list[Any]) -> Any:
    return pa.array(files, HUGGING_FACE)


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(UnsupportedInput) as caught:
        load_images(path, SIZE, minimum=1)
    assert caught.value.problem.sentence().isprintable()
    return caught.value.problem.code, caught.value.problem.found


@pytest.mark.parametrize(
    "column", [as_images(STRUCT), pa.array(FILES, pa.binary()), pa.array(FILES, pa.large_binary())], ids=str
)
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_every_kind_of_column_gives_the_images_of_a_zip(tmp_path: Path, column: Any, compression: str) -> None:
    columns = {"label": list(range(COUNT)), "image": column}
    images = load_images(written(tmp_path / "x", columns, compression=compression, row_group_size=17), SIZE)
    assert images.names[:2] == ("row-00000000", "row-00000001")
    same = zipped(tmp_path / "x.zip", {f"row-{i:08d}": data for i, data in enumerate(FILES)})
    assert images.digest == load_images(same, SIZE).digest


def test_rows_can_be_read_in_any_order(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", {"image": as_images(STRUCT)}, row_group_size=20)
    with path.open("rb") as file, open_parquet(file) as members:
        for row in (49, 3, 25, 24, 18, 0, 1):
            assert members.read(f"row-{row:08d}") == FILES[row]


def test_rows_without_an_image_are_named(tmp_path: Path) -> None:
    rows = [*STRUCT, None, {"bytes": None, "path": "elsewhere.png"}, {"bytes": b"text", "path": None}]
    images = load_images(written(tmp_path / "x.parquet", {"image": as_images(rows)}), SIZE)
    assert [(image.name, image.reason) for image in images.rejected] == [
        ("row-00000050", "no image file in this row"),
        ("row-00000051", "no image file in this row"),
        ("row-00000052", "not an image"),
    ]


def test_two_columns_of_bytes_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", {"image": as_images(STRUCT), "mask": FILES, "label": [0] * COUNT})
    assert refusal(path) == ("ambiguous_image_data", "2 columns that may be images, 'image', 'mask'")


def test_of_two_columns_the_one_declared_as_an_image_is_taken(tmp_path: Path) -> None:
    features = {"info": {"features": {"thumb": {"_type": "Value", "dtype": "binary"}, "image": {"_type": "Image"}}}}
    table = pa.table({"thumb": [b"x"] * COUNT, "image": as_images(STRUCT)})
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    parquet.write_table(table, tmp_path / "x.parquet")
    assert len(load_images(tmp_path / "x.parquet", SIZE)) == COUNT


@pytest.mark.parametrize("metadata", ["[", "[]", '{"info": {"features": [1]}}', '{"info": {"features": {"a": 1}}}'])
def test_metadata_that_is_something_else_is_no_hindrance(tmp_path: Path, metadata: str) -> None:
    table = pa.table({"a": FILES, "b": FILES}).replace_schema_metadata({"huggingface": metadata})
    parquet.write_table(table, tmp_path / "x.parquet")
    assert refusal(tmp_path / "x.parquet")[0] == "ambiguous_image_data"


def test_a_table_without_images_names_its_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", {"label": [1, 2], "path": ["a.png", "b.png"]})
    assert refusal(path) == ("no_image_data", "a Parquet file with the columns 'label' (int64), 'path' (string)")


def test_an_empty_table_has_no_images(tmp_path: Path) -> None:
    assert refusal(written(tmp_path / "x.parquet", {"image": as_images([])}))[0] == "no_images"


def test_there_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInput) as caught:
        load_labelled(written(tmp_path / "x.parquet", {"image": as_images(STRUCT)}), SIZE)
    assert caught.value.problem.code == "no_classes"


def test_without_the_package_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "x.parquet", {"image": as_images(STRUCT)})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError) as caught:
        load_images(path, SIZE)
    assert caught.value.problem.code == "missing_extra"
    assert "encoder-audit[parquet]" in caught.value.problem.action


def test_a_small_file_that_unpacks_to_much(tmp_path: Path) -> None:
    zeros = [bytes(10 * 2**20)] * 8
    path = written(tmp_path / "x.parquet", {"image": zeros}, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 2**20
    assert refusal(path)[0] == "zip_bomb"


def test_rows_that_share_one_value_are_read_one_after_the_other(tmp_path: Path) -> None:
    path = written(tmp_path / "x.parquet", {"image": FILES[:1] * 1000}, use_dictionary=True)
    assert len(load_images(path, SIZE)) == 1000


def test_too_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", COUNT - 1)
    assert refusal(written(tmp_path / "x.parquet", {"image": FILES}))[0] == "zip_bomb"


def test_a_row_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_table, "MAX_MEMBER_BYTES", len(FILES[0]) + 1000)
    images = load_images(written(tmp_path / "x.parquet", {"image": [*FILES, bytes(5000)]}), SIZE)
    assert [(image.name, image.reason) for image in images.rejected] == [("row-00000050", "larger than 64 MiB")]


@pytest.mark.parametrize("cut", [1, 8, 200])
def test_a_file_that_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path / "x.parquet", {"image": FILES})
    path.write_bytes(path.read_bytes()[:-cut])
    assert refusal(path)[0] == "truncated_archive"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"PAR1", "truncated_archive"),
        (b"PAR1PAR1", "truncated_archive"),
        (b"PAR1" + bytes(50) + b"\x20\0\0\0PAR1", "truncated_archive"),
        (b"PAR1" + b"\xff" * 50 + b"\x20\0\0\0PAR1", "truncated_archive"),
        (b"PARE" + bytes(50) + b"\x20\0\0\0PARE", "encrypted_archive"),
    ],
)
def test_files_that_only_begin_like_parquet(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "x").write_bytes(content)
    assert refusal(tmp_path / "x")[0] == code


def test_a_footer_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_table, "_LONGEST_FOOTER", 100)
    assert refusal(written(tmp_path / "x.parquet", {"image": FILES}))[0] == "zip_bomb"


def test_damaged_rows_are_named_and_other_row_groups_are_kept(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x.parquet", {"image": FILES}, compression="zstd", row_group_size=25, use_dictionary=False
    )
    metadata = parquet.ParquetFile(path).metadata
    begin, length = metadata.row_group(0).column(0).data_page_offset, metadata.row_group(0).total_byte_size
    data = bytearray(path.read_bytes())
    data[begin + 60 : begin + min(length, 4000)] = bytes(min(length, 4000) - 60)
    path.write_bytes(data)
    images = load_images(path, SIZE, minimum=25)
    assert images.names == tuple(f"row-{row:08d}" for row in range(25, COUNT))
    assert len(images.rejected) == 25
    assert {image.reason for image in images.rejected} == {"damaged in the archive"}
