"""Uploaded encoders: their rows. The bytes are in object storage under ``object_key``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy.orm import Session

from api.storage.files import Position, StoredFile, add_file, forget_object, page_of_files
from api.storage.tables import Encoder


def create_encoder(session: Session, file: StoredFile, *, encoder_id: uuid.UUID | None = None) -> Encoder:
    """Record a file that has been stored; ``encoder_id`` when the caller chose the id for the object's key."""
    return add_file(session, Encoder, file, encoder_id)


def get_encoder(session: Session, encoder_id: uuid.UUID) -> Encoder | None:
    """The row, or None when there is none."""
    return session.get(Encoder, encoder_id)


def list_encoders(session: Session, *, limit: int, after: Position | None = None) -> Sequence[Encoder]:
    """Newest first; ``after`` is the last row of the page before."""
    return page_of_files(session, Encoder, limit, after)


def forget_encoder_object(session: Session, encoder_id: uuid.UUID) -> None:
    """Say that the bytes are gone; the row stays for the audits that name it."""
    forget_object(session, Encoder, encoder_id)
