"""What audits leave behind. Rows are added only in the transaction that finishes the audit."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.storage.files import StoredFile
from api.storage.tables import Artifact


def add_artifacts(session: Session, audit_id: uuid.UUID, files: Iterable[StoredFile]) -> None:
    """Attach ``files`` to the audit; ``filename`` becomes the artifact's name, unique within the audit."""
    session.add_all(
        Artifact(
            audit_id=audit_id,
            name=file.filename,
            media_type=file.media_type,
            size=file.size,
            sha256=file.sha256,
            object_key=file.object_key,
        )
        for file in files
    )
    session.flush()


def list_artifacts(session: Session, audit_id: uuid.UUID) -> Sequence[Artifact]:
    """The audit's artifacts by name."""
    return session.scalars(select(Artifact).where(Artifact.audit_id == audit_id).order_by(Artifact.name)).all()


def get_artifact(session: Session, audit_id: uuid.UUID, name: str) -> Artifact | None:
    """One artifact by its name, or None."""
    return session.scalar(select(Artifact).where(Artifact.audit_id == audit_id, Artifact.name == name))
