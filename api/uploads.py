"""From quarantine to object storage and into the database: the same for encoders and datasets."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from api.image_preflight import form_of
from api.quarantine import ArrivedFile
from api.storage.datasets import create_dataset
from api.storage.encoders import create_encoder
from api.storage.files import StoredFile
from api.storage.objects import ObjectStore, ObjectStoreError
from api.storage.tables import Dataset, Encoder

_log = structlog.get_logger("api.uploads")

_UNKNOWN = "application/octet-stream"


@dataclass(frozen=True)
class PendingUpload:
    """A file that lies in object storage and has no row yet."""

    input: str
    id: uuid.UUID
    file: StoredFile

    def add(self, session: Session) -> uuid.UUID:
        """Make its row; returns the id."""
        return _TABLES[self.input].create(session, self.file, self.id).id


@dataclass(frozen=True)
class _Table:
    prefix: str
    media_type: Callable[[ArrivedFile], str]
    create: Callable[[Session, StoredFile, uuid.UUID], Encoder | Dataset]


_TABLES: Mapping[str, _Table] = {
    "encoder": _Table(
        "encoders",
        lambda file: _UNKNOWN,
        lambda session, file, id_: create_encoder(session, file, encoder_id=id_),
    ),
    "images": _Table(
        "datasets",
        lambda file: form.value if (form := form_of(file.path)) is not None else _UNKNOWN,
        lambda session, file, id_: create_dataset(session, file, dataset_id=id_),
    ),
}


def store_upload(objects: ObjectStore, name: str, file: ArrivedFile) -> PendingUpload:
    """Put the file that is the input ``name`` into object storage under a name of ours.

    Raises:
        ObjectStoreError: storage does not answer; nothing is left there that a row names.
    """
    table = _TABLES[name]
    file_id = uuid.uuid4()
    object_key = f"{table.prefix}/{file_id}"
    media_type = table.media_type(file)
    stored = objects.put_file(object_key, file.path, media_type)
    return PendingUpload(name, file_id, StoredFile(file.filename, media_type, stored.size, stored.sha256, object_key))


def discard(objects: ObjectStore, uploads: Iterable[PendingUpload]) -> None:
    """Take back files whose rows were never committed."""
    for upload in uploads:
        try:
            objects.delete(upload.file.object_key)
        except ObjectStoreError as error:
            _log.warning("an object without a row is left", object_key=upload.file.object_key, error=str(error))
