"""Queries that encoders and datasets share: both are uploaded files."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Session

from api.storage.tables import Dataset, Encoder

FileT = TypeVar("FileT", Encoder, Dataset)

Position = tuple[datetime, uuid.UUID]
"""(created_at, id) of the last row of a page: where the next page begins."""


@dataclass(frozen=True)
class StoredFile:
    """A file that lies in object storage already. ``size`` in bytes, ``sha256`` in hex."""

    filename: str
    media_type: str
    size: int
    sha256: str
    object_key: str


def add_file(session: Session, table: type[FileT], file: StoredFile, file_id: uuid.UUID | None) -> FileT:
    row = table(
        id=file_id or uuid.uuid4(),
        filename=file.filename,
        media_type=file.media_type,
        size=file.size,
        sha256=file.sha256,
        object_key=file.object_key,
    )
    session.add(row)
    session.flush()
    return row


def page_of_files(session: Session, table: type[FileT], limit: int, after: Position | None) -> Sequence[FileT]:
    query = select(table).order_by(table.created_at.desc(), table.id.desc()).limit(limit)
    if after is not None:
        query = query.where(tuple_(table.created_at, table.id) < after)
    return session.scalars(query).all()


def forget_object(session: Session, table: type[FileT], file_id: uuid.UUID) -> None:
    session.execute(update(table).where(table.id == file_id).values(object_key=None))
