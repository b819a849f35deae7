"""Audits as workers see them: claim, heartbeat, end, hand back, and the sweep that takes them from dead workers.

Every write names the attempt it belongs to. A worker whose attempt is no longer the latest updates no row, and so
learns that it has lost its lease. Time is PostgreSQL's, never a worker's own clock.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, case, func, select, text, update
from sqlalchemy.orm import Session

from api.storage.audit_states import AuditState, sources_of
from api.storage.tables import Audit, Json

# Any fixed number will do; all sweeping processes must agree on it.
_SWEEP_LOCK = 7_216_304_552


@dataclass(frozen=True)
class Conclusion:
    """What a finished audit found."""

    verdict: str
    score: float | None
    threshold: float | None


def claim(session: Session, audit_id: uuid.UUID, *, owner: str, lease: timedelta) -> Audit | None:
    """Take a queued audit: one update, so of many workers one gets it. None: there is nothing to take."""
    taken = session.scalar(
        update(Audit)
        .where(Audit.id == audit_id, Audit.state.in_(sources_of(AuditState.RUNNING)))
        .values(
            state=AuditState.RUNNING,
            attempt=Audit.attempt + 1,
            lease_owner=owner,
            lease_expires_at=func.now() + lease,
            heartbeat_at=func.now(),
            started_at=func.coalesce(Audit.started_at, func.now()),
        )
        .returning(Audit.id)
    )
    return None if taken is None else session.get(Audit, taken, populate_existing=True)


def heartbeat(
    session: Session,
    audit_id: uuid.UUID,
    attempt: int,
    *,
    lease: timedelta,
    stage: str | None,
    progress: float,
    scalars: Json,
) -> bool | None:
    """Extend the lease and report progress, which never goes back.

    Returns whether the user asked to cancel; None when the lease is lost.
    """
    return session.scalar(
        update(Audit)
        .where(*_held(audit_id, attempt))
        .values(
            lease_expires_at=func.now() + lease,
            heartbeat_at=func.now(),
            stage=stage,
            progress=func.greatest(Audit.progress, progress),
            scalars=scalars,
        )
        .returning(Audit.cancel_requested)
    )


def note_reading(session: Session, audit_id: uuid.UUID, attempt: int, reading: Json) -> bool:
    """Write how the files were read (audited, assumptions, image_notes). False, and nothing written, when the lease is
    lost."""
    noted = session.scalar(update(Audit).where(*_held(audit_id, attempt)).values(reading=reading).returning(Audit.id))
    return noted is not None


def note_forecast(session: Session, audit_id: uuid.UUID, attempt: int, forecast: Json) -> bool:
    """Write what the audit will cost. False, and nothing written, when the lease is lost."""
    noted = session.scalar(update(Audit).where(*_held(audit_id, attempt)).values(forecast=forecast).returning(Audit.id))
    return noted is not None


def cancel_requested(session: Session, audit_id: uuid.UUID, attempt: int) -> bool | None:
    """Whether the user asked to cancel, without extending the lease; None when the lease is lost."""
    return session.scalar(select(Audit.cancel_requested).where(*_held(audit_id, attempt)))


def finish(session: Session, audit_id: uuid.UUID, attempt: int, conclusion: Conclusion) -> bool:
    """The audit succeeded. False, and nothing written, when the lease is lost."""
    return _end(
        session,
        audit_id,
        attempt,
        AuditState.SUCCEEDED,
        verdict=conclusion.verdict,
        score=conclusion.score,
        threshold=conclusion.threshold,
        progress=1.0,
        stage=None,
    )


def fail(session: Session, audit_id: uuid.UUID, attempt: int, failure: Json) -> bool:
    """The audit ended with ``failure`` (code, field, found, expected, action). False when the lease is lost."""
    return _end(session, audit_id, attempt, AuditState.FAILED, failure=failure)


def cancel(session: Session, audit_id: uuid.UUID, attempt: int) -> bool:
    """The audit stopped because the user asked. False when the lease is lost."""
    return _end(session, audit_id, attempt, AuditState.CANCELLED)


def release(session: Session, audit_id: uuid.UUID, attempt: int) -> bool:
    """Hand the audit back to the queue: its worker is being stopped, which is not the audit's fault."""
    released = session.scalar(update(Audit).where(*_held(audit_id, attempt)).values(_requeued()).returning(Audit.id))
    return released is not None


def become_sweeper(session: Session) -> bool:
    """Whether this transaction may sweep: of many workers one at a time."""
    return bool(session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _SWEEP_LOCK}))


@dataclass(frozen=True)
class Waiting:
    """A queued audit whose id should go to the broker (again)."""

    audit_id: uuid.UUID
    queue: str


@dataclass(frozen=True)
class Swept:
    """Audits whose lease had run out: sent back to the queue, or given up after too many lost workers."""

    requeued: tuple[Waiting, ...]
    given_up: tuple[uuid.UUID, ...]


def take_back_lost(session: Session, *, max_losses: int) -> Swept:
    """End every lease that has run out.

    The audit goes back to the queue; after ``max_losses`` lost workers it fails, since it may be what kills them; and
    one that the user asked to cancel is cancelled.
    """
    lost = (Audit.state == AuditState.RUNNING, Audit.lease_expires_at < func.now())
    session.execute(
        update(Audit)
        .where(*lost, Audit.cancel_requested)
        .values(state=AuditState.CANCELLED, finished_at=func.now(), lease_owner=None, lease_expires_at=None)
    )
    given_up = session.scalars(
        update(Audit)
        .where(*lost, Audit.losses + 1 >= max_losses)
        .values(
            state=AuditState.FAILED,
            finished_at=func.now(),
            losses=Audit.losses + 1,
            lease_owner=None,
            lease_expires_at=None,
            failure=_lost_repeatedly(max_losses),
        )
        .returning(Audit.id)
    ).all()
    requeued = session.execute(
        update(Audit).where(*lost).values(_requeued() | {"losses": Audit.losses + 1}).returning(Audit.id, Audit.queue)
    )
    return Swept(tuple(Waiting(row.id, row.queue) for row in requeued), tuple(given_up))


def undelivered(
    session: Session, queue: str, *, unsent_for: timedelta, sent_before: timedelta, limit: int
) -> Sequence[Waiting]:
    """Queued audits of ``queue`` that the broker may not know of, oldest first.

    Either their id was not sent although they have waited ``unsent_for`` (the API died between commit and send, or
    the broker was down), or it was sent longer than ``sent_before`` ago (they wait their turn, or the broker lost it).
    """
    rows = session.execute(
        select(Audit.id, Audit.queue)
        .where(
            Audit.state == AuditState.QUEUED,
            Audit.queue == queue,
            case(
                (Audit.dispatched_at.is_(None), Audit.queued_at < func.now() - unsent_for),
                else_=Audit.dispatched_at < func.now() - sent_before,
            ),
        )
        .order_by(Audit.queued_at)
        .limit(limit)
    )
    return [Waiting(row.id, row.queue) for row in rows]


def _held(audit_id: uuid.UUID, attempt: int) -> tuple[ColumnElement[bool], ...]:
    return (Audit.id == audit_id, Audit.attempt == attempt, Audit.state == AuditState.RUNNING)


def _end(session: Session, audit_id: uuid.UUID, attempt: int, state: AuditState, **values: Any) -> bool:
    ended = session.scalar(
        update(Audit)
        .where(Audit.id == audit_id, Audit.attempt == attempt, Audit.state == AuditState.RUNNING)
        .values(state=state, finished_at=func.now(), lease_owner=None, lease_expires_at=None, **values)
        .returning(Audit.id)
    )
    return ended is not None


def _requeued() -> dict[str, Any]:
    return {
        "state": AuditState.QUEUED,
        "queued_at": func.now(),
        "dispatched_at": None,
        "lease_owner": None,
        "lease_expires_at": None,
    }


def _lost_repeatedly(max_losses: int) -> Json:
    return {
        "code": "worker_lost_repeatedly",
        "field": "audit",
        "found": f"{max_losses} workers that ended while they ran this audit",
        "expected": "a worker that lives to the end",
        "action": "The audit may need more memory than the workers have: try a smaller encoder or fewer images, "
        "or ask the operator to look at the workers' logs.",
    }
