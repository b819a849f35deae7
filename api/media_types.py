"""Content types of requests."""

from __future__ import annotations

import json

from fastapi import Request

from api.errors import RequestProblem


def media_type_of(request: Request) -> str:
    """The body's media type without parameters, in lower case; empty if the request names none."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def unsupported_media_type(found: str, expected: str) -> RequestProblem:
    """415 for a body of the wrong type."""
    shown = json.dumps(found[:100]) if found else "missing"
    return RequestProblem(
        415,
        "unsupported_media_type",
        f"The Content-Type is {shown}; expected is {expected}. With curl, -F sends a form.",
    )
