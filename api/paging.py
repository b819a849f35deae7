"""Cursors: an opaque place in a list that is sorted by time of creation, newest first."""

from __future__ import annotations

import base64
import binascii
import uuid
from datetime import datetime

from api.errors import input_problem
from api.storage.files import Position


def encode_cursor(position: Position) -> str:
    """The cursor of the page that begins after ``position``."""
    created_at, row_id = position
    return base64.urlsafe_b64encode(f"{created_at.isoformat()}|{row_id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> Position | None:
    """The position in ``cursor``; None for the first page.

    Raises:
        RequestProblem: 422 for a cursor that this service did not make.
    """
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        created_at, row_id = text.split("|")
        position = datetime.fromisoformat(created_at), uuid.UUID(row_id)
    except (ValueError, binascii.Error) as error:
        raise input_problem(
            "invalid_cursor", "/cursor", "The cursor is not one of ours.", expected="the 'next' of the page before"
        ) from error
    if position[0].tzinfo is None:
        raise input_problem("invalid_cursor", "/cursor", "The cursor is not one of ours.")
    return position
