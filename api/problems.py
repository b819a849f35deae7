"""The declared errors of a route, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from api.errors import MEDIA_TYPE, ProblemBody, title_of


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """FastAPI's ``responses`` for these statuses and for 500, all as problem documents."""
    return {
        status: {
            "description": title_of(status),
            "model": ProblemBody,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemBody"}}},
        }
        for status in (*statuses, 500)
    }
