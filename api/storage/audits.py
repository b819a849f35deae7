"""Audits as the API sees them: create, read, list, ask to cancel. What workers do is in ``leases``."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.orm import Session

from api.storage.audit_states import AuditState
from api.storage.files import Position
from api.storage.tables import Audit, Json


@dataclass(frozen=True)
class NewAudit:
    """What a request asks for. ``inline_uploads``: the files came with it and serve this audit only."""

    kind: str
    queue: str
    encoder_id: uuid.UUID | None
    dataset_id: uuid.UUID | None
    card: Json | None = None
    parameters: Json = field(default_factory=dict)
    seed: int = 0
    inline_uploads: bool = False


def create_audit(session: Session, new: NewAudit, *, audit_id: uuid.UUID | None = None) -> Audit:
    """A queued audit. The caller commits, then sends its id to the broker (``queue.publish``)."""
    audit = Audit(
        id=audit_id or uuid.uuid4(),
        kind=new.kind,
        queue=new.queue,
        encoder_id=new.encoder_id,
        dataset_id=new.dataset_id,
        card=new.card,
        parameters=new.parameters,
        seed=new.seed,
        inline_uploads=new.inline_uploads,
    )
    session.add(audit)
    session.flush()
    session.refresh(audit)
    return audit


def get_audit(session: Session, audit_id: uuid.UUID) -> Audit | None:
    """The audit as it stands in the database now, with its encoder and dataset; None when there is none."""
    return session.get(Audit, audit_id, populate_existing=True)


def list_audits(
    session: Session,
    *,
    limit: int,
    after: Position | None = None,
    state: AuditState | None = None,
    kind: str | None = None,
    verdict: str | None = None,
) -> Sequence[Audit]:
    """Newest first; ``after`` is (created_at, id) of the last row of the page before."""
    query = select(Audit).order_by(Audit.created_at.desc(), Audit.id.desc()).limit(limit)
    if after is not None:
        query = query.where(tuple_(Audit.created_at, Audit.id) < after)
    if state is not None:
        query = query.where(Audit.state == state)
    if kind is not None:
        query = query.where(Audit.kind == kind)
    if verdict is not None:
        query = query.where(Audit.verdict == verdict)
    return session.scalars(query).unique().all()


def mark_dispatched(session: Session, audit_ids: Sequence[uuid.UUID]) -> None:
    """Note that these ids were sent to the broker."""
    session.execute(
        update(Audit).where(Audit.id.in_(audit_ids), Audit.state == AuditState.QUEUED).values(dispatched_at=func.now())
    )


def request_cancel(session: Session, audit_id: uuid.UUID) -> Audit | None:
    """Ask an audit to stop: a queued one is cancelled at once, a running one stops at its next step.

    Asking again, or after the end, changes nothing. Returns the audit as it then stands; None when there is none.
    """
    cancelled_at_once = session.scalar(
        update(Audit)
        .where(Audit.id == audit_id, Audit.state == AuditState.QUEUED)
        .values(state=AuditState.CANCELLED, cancel_requested=True, finished_at=func.now())
        .returning(Audit.id)
    )
    if cancelled_at_once is None:
        session.execute(
            update(Audit).where(Audit.id == audit_id, Audit.state == AuditState.RUNNING).values(cancel_requested=True)
        )
    return get_audit(session, audit_id)
