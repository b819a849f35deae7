"""Where each stage of a running audit can be taken up again. The states themselves are in object storage."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.storage.audit_states import AuditState
from api.storage.tables import Audit, Checkpoint


@dataclass(frozen=True)
class SavedStage:
    """The state of ``stage`` when ``step`` of ``total`` steps were done, stored as ``object_key``."""

    stage: str
    step: int
    total: int
    size: int
    sha256: str
    object_key: str


def record_checkpoint(session: Session, audit_id: uuid.UUID, attempt: int, saved: SavedStage) -> bool:
    """Point the stage at its new state; False, and nothing written, when ``attempt`` has lost its lease."""
    holder = session.scalar(
        select(Audit.id)
        .where(Audit.id == audit_id, Audit.attempt == attempt, Audit.state == AuditState.RUNNING)
        .with_for_update(of=Audit)
    )
    if holder is None:
        return False
    values = {
        "step": saved.step,
        "total": saved.total,
        "size": saved.size,
        "sha256": saved.sha256,
        "object_key": saved.object_key,
        "saved_at": func.now(),
    }
    statement = insert(Checkpoint).values(audit_id=audit_id, stage=saved.stage, **values)
    session.execute(statement.on_conflict_do_update(index_elements=["audit_id", "stage"], set_=values))
    return True


def list_checkpoints(session: Session, audit_id: uuid.UUID) -> Sequence[Checkpoint]:
    """The stages saved so far."""
    query = select(Checkpoint).where(Checkpoint.audit_id == audit_id).order_by(Checkpoint.saved_at)
    return session.scalars(query).all()


def delete_checkpoints(session: Session, audit_id: uuid.UUID) -> None:
    """Forget the stages; the caller deletes the objects."""
    session.execute(delete(Checkpoint).where(Checkpoint.audit_id == audit_id))
