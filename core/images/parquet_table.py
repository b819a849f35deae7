"""Images in a column of a Parquet file, as Hugging Face's ``datasets`` writes them, read some rows at a time.

The column holds image files: as plain binary, or as a struct whose field ``bytes`` does (its ``path`` is not read).
Row 7 has the name ``row-00000007``. Needs pyarrow, the extra ``parquet``.
"""

from __future__ import annotations

import importlib
import json
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from core.errors import UsageError
from core.images.archive import (
    DAMAGED,
    MAX_MEMBER_BYTES,
    TOO_LARGE,
    UnreadableMember,
    bomb,
    broken,
    check_count,
    check_total,
    refuse,
    shown,
)
from core.types import RejectedImage

MAGIC = b"PAR1"
ENCRYPTED = b"PARE"
_LONGEST_FOOTER = 64 * 2**20
_ROWS_AT_A_TIME = 16  # rows may share one large value of a dictionary, which takes the memory of each of them


@dataclass(frozen=True)
class Column:
    """``leaf`` is where the bytes are: the column itself, or its field."""

    name: str
    leaf: str


class ParquetMembers:
    """The rows of an opened, checked Parquet file."""

    rejected: tuple[RejectedImage, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, table: Any, column: Column) -> None:
        self._table = table
        self._column = column
        metadata = table.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._ends = list(accumulate(sizes))  # of the row groups
        self._rows = {f"row-{row:08d}": row for row in range(sum(sizes))}
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = None
        self._group, self._first, self._end = -1, 0, 0  # of the rows in ``_batch``
        self._damaged: dict[int, int] = {}  # row group -> the first row that cannot be reached

    def names(self) -> list[str]:
        """``row-00000000`` and so on."""
        return list(self._rows)

    def read(self, name: str) -> bytes:
        """The image file in one row.

        Raises:
            UnreadableMember: it is damaged, too large or not there.
        """
        row = self._rows[name]
        group = bisect_right(self._ends, row)
        if row >= self._damaged.get(group, row + 1):
            raise UnreadableMember(DAMAGED)
        try:
            self._go_to(row, group)
            return image_bytes(self._batch.column(0)[row - self._first], self._column)
        except faults() as failure:
            self._damaged[group], self._group = row, -1
            raise UnreadableMember(DAMAGED) from failure

    def write_rows(self, names: Sequence[str], path: Path) -> None:
        """The rows ``names`` with all their columns as a Parquet file at ``path``, in the order of this one.

        Raises:
            UnreadableMember: another column is damaged.
        """
        import pyarrow as pa

        wanted = {self._rows[name] for name in names}
        try:
            with pyarrow_module("pyarrow.parquet").ParquetWriter(path, self._table.schema_arrow) as writer:
                row = 0
                for group in range(len(self._ends)):
                    kept = []
                    for batch in self._table.iter_batches(_ROWS_AT_A_TIME, row_groups=[group], use_threads=False):
                        mask = pa.array([row + at in wanted for at in range(batch.num_rows)])
                        kept.append(batch.filter(mask))
                        row += batch.num_rows
                    writer.write_table(pa.Table.from_batches(kept, self._table.schema_arrow))
        except faults() as failure:
            raise UnreadableMember(DAMAGED) from failure

    def _go_to(self, row: int, group: int) -> None:
        """Read on until ``row`` is in the batch; going back begins again at its row group."""
        if group != self._group or row < self._first:
            self._batches = self._table.iter_batches(
                _ROWS_AT_A_TIME, row_groups=[group], columns=[self._column.leaf], use_threads=False
            )
            self._group = group
            self._first = self._end = self._ends[group - 1] if group else 0
        while row >= self._end:
            self._batch = next(self._batches)
            self._first, self._end = self._end, self._end + self._batch.num_rows


@contextmanager
def open_parquet(file: BinaryIO) -> Iterator[ParquetMembers]:
    """The Parquet file ``file``, after its footer has been checked.

    Raises:
        UsageError: ``missing_extra`` without pyarrow.
        UnsupportedInput: ``truncated_archive``, ``zip_bomb``, or ``no_image_data`` or ``ambiguous_image_data`` where
            not exactly one column can be images.
    """
    _check_footer(file)
    parquet = pyarrow_module("pyarrow.parquet")
    with ExitStack() as stack:
        try:
            table = stack.enter_context(parquet.ParquetFile(file, pre_buffer=False))
            column = choose_column(table.schema_arrow, "a Parquet file")
            check_count(table.metadata.num_rows)
            _check_size(table.metadata, column)
            rows = ParquetMembers(table, column)
        except faults() as failure:
            broken(f"a damaged Parquet file ({shown(str(failure))})", "Parquet file")
        yield rows


def _check_footer(file: BinaryIO) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    length, end = int.from_bytes(file.read(4), "little"), file.read(4)
    file.seek(0)
    if end != MAGIC or length + 12 > size:
        broken("a Parquet file without its end", "Parquet file")
    if length > _LONGEST_FOOTER:
        bomb(f"a Parquet footer of {length} bytes", f"at most {_LONGEST_FOOTER}")


def _check_size(metadata: Any, column: Column) -> None:
    packed = unpacked = rows = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if group.num_rows < 0:
            broken("a Parquet file with a damaged footer", "Parquet file")
        rows += group.num_rows
        for index in range(group.num_columns):
            chunk = group.column(index)
            if chunk.path_in_schema == column.leaf:
                packed += max(0, chunk.total_compressed_size)
                unpacked += max(0, chunk.total_uncompressed_size)
    if rows != metadata.num_rows:
        broken("a Parquet file with a damaged footer", "Parquet file")
    check_total(unpacked, packed)


def image_bytes(value: Any, column: Column) -> bytes:
    """The image file in one row's value of ``column``.

    Raises:
        UnreadableMember: there is none, or it is too large.
    """
    if column.leaf != column.name and value.is_valid:
        value = value["bytes"]
    data = value.as_buffer() if value.is_valid else None
    if data is None:
        raise UnreadableMember("no image file in this row")
    if data.size > MAX_MEMBER_BYTES:
        raise UnreadableMember(TOO_LARGE)
    return bytes(data.to_pybytes())


def choose_column(schema: Any, form: str) -> Column:
    """The column of images: the only one with bytes, or the only one of those that Hugging Face calls an image.

    Raises:
        UnsupportedInput: ``no_image_data`` or ``ambiguous_image_data``; ``form`` is what it was looked for in.
    """
    binary = [found for field in schema if (found := _as_images(field)) is not None]
    declared = _declared_images(schema.metadata or {})
    columns = binary if len(binary) == 1 else [column for column in binary if column.name in declared] or binary
    if len(columns) == 1:
        return columns[0]
    fields = ", ".join(f"{shown(field.name)} ({shown(str(field.type))[1:-1]})" for field in list(schema)[:10])
    if columns:
        refuse(
            "ambiguous_image_data",
            f"{len(columns)} columns that may be images, {', '.join(shown(column.name) for column in columns[:10])}",
            "one column of image files",
            "Write a file with only one of them.",
        )
    refuse(
        "no_image_data",
        f"{form} with the columns {fields or '(none)'}",
        "one column of image files: binary, or a struct with the binary field 'bytes'",
        "Write the image files' bytes into a column.",
    )


def _as_images(field: Any) -> Column | None:
    from pyarrow import types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    if is_bytes(field.type):
        return Column(field.name, field.name)
    if types.is_struct(field.type) and any(child.name == "bytes" and is_bytes(child.type) for child in field.type):
        return Column(field.name, f"{field.name}.bytes")
    return None


def _declared_images(metadata: dict[bytes, bytes]) -> set[str]:
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {name for name, feature in features.items() if feature.get("_type") == "Image"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()


def pyarrow_module(name: str) -> Any:
    """pyarrow, or one of its modules.

    Raises:
        UsageError: ``missing_extra``.
    """
    try:
        importlib.import_module("pyarrow")
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            "missing_extra",
            field="images",
            found="a Parquet or Arrow file, and no package 'pyarrow' to read it",
            expected="the package of the extra 'parquet'",
            action="Install it: pip install 'encoder-audit[parquet]'; or give the images as a zip or tar.",
        ) from error


def faults() -> tuple[type[Exception], ...]:
    """What pyarrow raises on a damaged file; StopIteration, where a row group has fewer rows than it says."""
    from pyarrow import ArrowException

    return (ArrowException, OSError, ValueError, IndexError, StopIteration, struct.error)
