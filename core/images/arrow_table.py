"""Images in a column of an Arrow file or stream, as Hugging Face's ``save_to_disk`` writes them, read batch by batch.

The column is as in Parquet files (``core.images.parquet_table``); row 7 has the name ``row-00000007``. The file is
mapped into memory, not read. Needs pyarrow, the extra ``parquet``.
"""

from __future__ import annotations

import mmap
import os
import struct
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from core.images.archive import DAMAGED, UnreadableMember, broken, check_count, refuse, shown
from core.images.parquet_table import choose_column, faults, image_bytes, pyarrow_module
from core.types import RejectedImage

FILE_MAGIC = b"ARROW1\0\0"
_CONTINUES = b"\xff\xff\xff\xff"
_SCHEMA, _RECORDS = 1, 3  # kinds of message
_CONVERSION = (
    'Write it as Parquet: python -c "import pyarrow as p, pyarrow.parquet; '
    "p.parquet.write_table(p.ipc.open_stream('FILE').read_all(), 'images.parquet')\""
)


class ArrowMembers:
    """The rows of an opened, checked Arrow stream."""

    rejected: tuple[RejectedImage, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, schema: Any, batches: list[Any]) -> None:
        self._schema, self._batches = schema, batches
        self._column = choose_column(schema, "an Arrow file")
        self._ends = list(accumulate(batch.num_rows for batch in batches))
        self._rows = {f"row-{row:08d}": row for row in range(self._ends[-1] if self._ends else 0)}
        self._sound: set[int] = set()

    def names(self) -> list[str]:
        """``row-00000000`` and so on."""
        return list(self._rows)

    def read(self, name: str) -> bytes:
        """The image file in one row.

        Raises:
            UnreadableMember: it is damaged, too large or not there.
        """
        row = self._rows[name]
        number = bisect_right(self._ends, row)
        first = self._ends[number - 1] if number else 0
        try:
            column = self._batches[number].column(self._column.name)
            if number not in self._sound:
                column.validate(full=True)  # offsets that lead out of the file
                self._sound.add(number)
            return image_bytes(column[row - first], self._column)
        except faults() as failure:
            raise UnreadableMember(DAMAGED) from failure

    def write_rows(self, names: Sequence[str], path: Path) -> None:
        """The rows ``names`` with all their columns as an Arrow stream at ``path``, in the order of this one.

        Raises:
            UnreadableMember: another column is damaged.
        """
        pa = pyarrow_module("pyarrow")
        wanted = {self._rows[name] for name in names}
        try:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, self._schema) as writer:
                for number, batch in enumerate(self._batches):
                    first = self._ends[number - 1] if number else 0
                    batch.validate(full=True)
                    writer.write_batch(batch.filter(pa.array([first + at in wanted for at in range(batch.num_rows)])))
        except faults() as failure:
            raise UnreadableMember(DAMAGED) from failure


def is_arrow(start: bytes) -> bool:
    """Whether a file begins as an Arrow file or stream does."""
    if start.startswith(FILE_MAGIC):
        return True
    # The length of a message about the schema is a multiple of eight.
    length = int.from_bytes(start[4:8], "little")
    return start[:4] == _CONTINUES and 0 < length < 2**26 and length % 8 == 0


def open_arrow(file: BinaryIO) -> ArrowMembers:
    """The Arrow file or stream ``file``, after all its messages have been looked at.

    Raises:
        UsageError: ``missing_extra`` without pyarrow.
        UnsupportedInput: ``truncated_archive``, ``zip_bomb``, or ``no_image_data`` or ``ambiguous_image_data`` where
            not exactly one column can be images, or it is compressed.
    """
    pa = pyarrow_module("pyarrow")
    if file.seek(0, os.SEEK_END) < 16:
        broken("an Arrow file without its beginning", "Arrow file")
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    begin = len(FILE_MAGIC) if mapped[: len(FILE_MAGIC)] == FILE_MAGIC else 0
    try:
        _check_messages(mapped, begin)
        # An Arrow file is a stream between its magic and its footer, which says the same once more.
        reader = pa.ipc.open_stream(pa.py_buffer(memoryview(mapped)[begin:]))
        batches = list(reader)
        check_count(sum(batch.num_rows for batch in batches))
        return ArrowMembers(reader.schema, batches)
    except faults() as failure:
        broken(f"a damaged or cut-off Arrow file ({shown(str(failure))})", "Arrow file")


def _check_messages(data: mmap.mmap, position: int) -> None:
    """Refuse what pyarrow would unpack into memory of any size, and a stream without its end."""
    while position < len(data):
        if data[position : position + 4] != _CONTINUES:
            break
        (length,) = struct.unpack_from("<i", data, position + 4)
        if length == 0:
            return
        kind, body, packed = _message(data[position + 8 : position + 8 + max(0, length)])
        if kind not in (_SCHEMA, _RECORDS) or packed:
            what = "compressed" if packed else "dictionary-encoded"
            refuse("no_image_data", f"a {what} Arrow file", "plain columns", _CONVERSION)
        if length < 0 or body < 0 or position + 8 + length + body > len(data):
            break
        position += 8 + length + body
    broken("an Arrow file that is damaged or cut off", "Arrow file")


def _message(metadata: bytes) -> tuple[int, int, bool]:
    """(kind, length of the body, whether that is compressed) of a message: a flatbuffer, read as the format says
    (https://arrow.apache.org/docs/format/Columnar.html, Message.fbs)."""
    table = struct.unpack_from("<I", metadata, 0)[0]
    kind_at, header_at, body_at = (_field(metadata, table, number) for number in (1, 2, 3))
    kind = metadata[kind_at] if kind_at else 0
    body = struct.unpack_from("<q", metadata, body_at)[0] if body_at else 0
    packed = False
    if kind == _RECORDS and header_at:
        records = header_at + struct.unpack_from("<I", metadata, header_at)[0]
        packed = _field(metadata, records, 3) != 0
    return kind, body, packed


def _field(buffer: bytes, table: int, number: int) -> int:
    """Where the field ``number`` of a flatbuffer's table stands; 0 where it has none."""
    directory = table - struct.unpack_from("<i", buffer, table)[0]
    (length,) = struct.unpack_from("<H", buffer, directory)
    at = 4 + 2 * number
    if directory < 0 or at + 2 > length:
        return 0
    (offset,) = struct.unpack_from("<H", buffer, directory + at)
    return table + offset if offset else 0
