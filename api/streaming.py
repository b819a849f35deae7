"""Request bodies as streams: files to quarantine, small form fields to memory; never a body as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.errors import RequestProblem, input_problem
from api.quarantine import ArrivedFile, ArrivingFile, displayable, too_large

_BLOCK = 1024 * 1024  # bytes handed to a thread at once
_MOST_PARTS = 32
_LONGEST_PART_HEADER = 8192


@dataclass(frozen=True)
class FormLayout:
    """Which parts a form may have: ``files`` by name with the largest size in bytes, ``fields`` by name."""

    files: Mapping[str, int]
    fields: tuple[str, ...]
    field_limit: int


@dataclass
class Form:
    """What arrived."""

    files: dict[str, ArrivedFile] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


async def read_form(request: Request, layout: FormLayout, folder: Path) -> Form:
    """Stream the body of ``request`` into ``folder``; parsing, hashing and writing happen in a thread.

    Raises:
        RequestProblem: 400 for a malformed body, 413 beyond a limit, 422 for unknown or repeated parts.
        ClientDisconnect: the client went away.
    """
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if not boundary:
        raise RequestProblem(400, "malformed_multipart", "The Content-Type names no multipart boundary.")
    refuse_announced_size(request, sum(layout.files.values()) + layout.field_limit * (len(layout.fields) + 1))
    reader = _FormReader(boundary, layout, folder)
    try:
        async for block in _blocks(request):
            await asyncio.to_thread(reader.feed, block)
        return reader.finish()
    finally:
        reader.close()


async def read_body(request: Request, name: str, filename: str, limit: int, folder: Path) -> ArrivedFile:
    """Stream the whole body of ``request`` into ``folder`` as one file.

    Raises:
        RequestProblem: 413 beyond ``limit`` bytes. ClientDisconnect: the client went away.
    """
    file = ArrivingFile(folder, name, displayable(filename, fallback=name), limit)
    try:
        async for block in _blocks(request):
            await asyncio.to_thread(file.write, block)
        return file.finish()
    finally:
        file.close()


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces large enough to be worth a thread each."""
    pending = bytearray()
    async for chunk in request.stream():
        pending += chunk
        if len(pending) >= _BLOCK:
            yield bytes(pending)
            pending.clear()
    if pending:
        yield bytes(pending)


def refuse_announced_size(request: Request, limit: int) -> None:
    """Answer 413 before the body is read when its announced length is over ``limit``.

    Raises:
        RequestProblem: 413.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise RequestProblem(
            413, "too_large", f"The request has {announced} bytes; this service accepts at most {limit}."
        )


class _FormReader:
    """The state of one form while it arrives; callbacks of the parser are the ``_on_...`` methods."""

    def __init__(self, boundary: bytes, layout: FormLayout, folder: Path) -> None:
        self._layout = layout
        self._folder = folder
        self._form = Form()
        self._parts = 0
        self._ended = False
        self._header_name = b""
        self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._file: ArrivingFile | None = None
        self._text = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> None:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise RequestProblem(
                400, "malformed_multipart", f"The multipart body cannot be read: {str(error)[:200]}"
            ) from error

    def finish(self) -> Form:
        if not self._ended:
            raise RequestProblem(
                400, "malformed_multipart", "The multipart body ends before its closing boundary; nothing was kept."
            )
        return self._form

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise RequestProblem(400, "malformed_multipart", f"The form has more than {_MOST_PARTS} parts.")
        self._headers = {}
        self._header_name = self._header_value = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._limit_header()

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._limit_header()

    def _limit_header(self) -> None:
        if len(self._header_name) + len(self._header_value) > _LONGEST_PART_HEADER:
            raise RequestProblem(400, "malformed_multipart", "A part's header is too long.")

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", errors="replace")
        filename = options.get(b"filename")
        if self._name in self._form.files or self._name in self._form.fields:
            raise input_problem("repeated_part", f"/{self._name}", f"The part '{self._name}' occurs twice.")
        if self._name in self._layout.files:
            shown = displayable((filename or b"").decode("utf-8", errors="replace"), fallback=self._name)
            self._file = ArrivingFile(self._folder, self._name, shown, self._layout.files[self._name])
        elif self._name in self._layout.fields:
            self._text = bytearray()
        else:
            known = ", ".join([*self._layout.files, *self._layout.fields])
            raise RequestProblem(
                422, "unknown_part", f"The form has a part that means nothing here; known are {known}."
            )

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(memoryview(data)[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > self._layout.field_limit:
            raise too_large(self._name, self._layout.field_limit)

    def _on_part_end(self) -> None:
        if self._file is not None:
            self._form.files[self._name] = self._file.finish()
            self._file = None
            return
        try:
            self._form.fields[self._name] = self._text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise input_problem("not_text", f"/{self._name}", f"'{self._name}' is not UTF-8 text.") from error

    def _on_end(self) -> None:
        self._ended = True
