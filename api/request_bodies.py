"""Request bodies that are read as streams, described by hand for the OpenAPI document."""

from __future__ import annotations

from typing import Any

_BINARY = {"type": "string", "format": "binary"}


def upload_body(raw_types: tuple[str, ...]) -> dict[str, Any]:
    """One file: the part ``file`` of a form, or the raw body of one of ``raw_types``."""
    form = {"schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}}}
    content = {"multipart/form-data": form, **{each: {"schema": _BINARY} for each in raw_types}}
    return {"requestBody": {"required": True, "content": content}}
