"""Uploaded datasets: their rows. The bytes are in object storage under ``object_key``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy.orm import Session

from api.storage.files import Position, StoredFile, add_file, forget_object, page_of_files
from api.storage.tables import Dataset


def create_dataset(session: Session, file: StoredFile, *, dataset_id: uuid.UUID | None = None) -> Dataset:
    """Record a file that has been stored; ``dataset_id`` when the caller chose the id for the object's key."""
    return add_file(session, Dataset, file, dataset_id)


def get_dataset(session: Session, dataset_id: uuid.UUID) -> Dataset | None:
    """The row, or None when there is none."""
    return session.get(Dataset, dataset_id)


def list_datasets(session: Session, *, limit: int, after: Position | None = None) -> Sequence[Dataset]:
    """Newest first; ``after`` is the last row of the page before."""
    return page_of_files(session, Dataset, limit, after)


def forget_dataset_object(session: Session, dataset_id: uuid.UUID) -> None:
    """Say that the bytes are gone; the row stays for the audits that name it."""
    forget_object(session, Dataset, dataset_id)
