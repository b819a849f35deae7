"""A stored file as an answer: ETag, one byte range, digest, a safe file name; streamed from object storage."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from api.errors import RequestProblem
from api.storage.objects import ObjectStore
from api.storage.tables import Artifact

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class ByteRange:
    """Both ends are included."""

    first: int
    last: int


def download(
    request: Request,
    objects: ObjectStore,
    artifact: Artifact,
    *,
    filename: str | None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The bytes of ``artifact``, or the part the client asks for; as an attachment if ``filename`` is given.

    Raises:
        RequestProblem: 416 for a range outside of the file. ObjectStoreError: storage does not answer.
    """
    etag = f'"{artifact.sha256}"'
    common = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(artifact.sha256)).decode()}:",
        **(headers or {}),
    }
    if filename is not None:
        common["Content-Disposition"] = content_disposition(filename)
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=common)
    wanted = _wanted_range(request, artifact.size, etag)
    first, last = (wanted.first, wanted.last) if wanted else (0, artifact.size - 1)
    common["Content-Length"] = str(last - first + 1)
    if wanted:
        common["Content-Range"] = f"bytes {first}-{last}/{artifact.size}"
    status = 206 if wanted else 200
    if request.method == "HEAD" or artifact.size == 0:
        return Response(status_code=status, headers=common, media_type=artifact.media_type)
    chunks = objects.read(artifact.object_key, first, last) if wanted else objects.read(artifact.object_key)
    return StreamingResponse(chunks, status_code=status, headers=common, media_type=artifact.media_type)


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether the client already holds the version called ``etag`` (weak comparison, RFC 9110)."""
    if if_none_match is None:
        return False
    held = {each.strip().removeprefix("W/") for each in if_none_match.split(",")}
    return "*" in held or etag in held


def content_disposition(filename: str) -> str:
    """``attachment`` with the name twice: plain ASCII, and UTF-8 in percent signs (RFC 6266)."""
    plain = _UNSAFE.sub("_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _wanted_range(request: Request, size: int, etag: str) -> ByteRange | None:
    """The one range asked for; None means the whole file (also for forms we do not know, as RFC 9110 allows)."""
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if_range = request.headers.get("if-range")
    if match is None or match.group(0) == "bytes=-" or (if_range is not None and if_range != etag):
        return None
    begin, end = match.groups()
    if begin == "":  # the last `end` bytes
        first, last = max(size - int(end), 0), size - 1
    else:
        first, last = int(begin), min(int(end), size - 1) if end else size - 1
        if end and int(end) < first:
            return None
    if first > last or first >= size:
        raise RequestProblem(
            416,
            "range_not_satisfiable",
            f"The file has {size} bytes; the range asked for lies outside.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return ByteRange(first, last)
