"""The tables. A change here needs a migration; ``python -m api.storage.migrate check`` tells when one is missing."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Index,
    MetaData,
    SmallInteger,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from api.storage.audit_states import AuditState

Json = dict[str, Any]


class Base(DeclarativeBase):
    """Names of constraints follow one pattern, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text,
        datetime: DateTime(timezone=True),
        Json: JSONB(none_as_null=True),
    }


class UploadedFile:
    """Columns of a file a user gave us. ``object_key`` is null once the bytes are gone; the row remains."""

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    filename: Mapped[str]
    media_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    object_key: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Encoder(UploadedFile, Base):
    """An uploaded encoder: weights of unknown origin, never opened by the API."""

    __tablename__ = "encoders"
    __table_args__ = (
        CheckConstraint("size >= 0", "size"),
        CheckConstraint("length(sha256) = 64", "sha256"),
        Index(None, "created_at", "id"),
    )


class Dataset(UploadedFile, Base):
    """An uploaded archive of images."""

    __tablename__ = "datasets"
    __table_args__ = (
        CheckConstraint("size >= 0", "size"),
        CheckConstraint("length(sha256) = 64", "sha256"),
        Index(None, "created_at", "id"),
    )


class Audit(Base):
    """One audit. ``attempt`` is the fencing token: only the worker that holds the latest attempt may write.

    ``losses`` counts workers that died with it, ``dispatched_at`` when its id last went to the broker, ``scalars`` the
    numbers logged last, ``reading`` says how the files were read (audited, assumptions, image_notes), ``forecast`` what
    it will cost (passes, seconds_low, seconds_high, memory_bytes), ``failure`` is a problem with code, field, found,
    expected, action. ``kind`` is free text here: the API checks it against the catalogue, so a new kind needs no
    migration.
    """

    __tablename__ = "audits"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(default=AuditState.QUEUED, server_default=AuditState.QUEUED)
    queue: Mapped[str]
    encoder_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("encoders.id"))
    dataset_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("datasets.id"))
    inline_uploads: Mapped[bool] = mapped_column(default=False, server_default=false())
    card: Mapped[Json | None]
    parameters: Mapped[Json] = mapped_column(default=dict, server_default=text("'{}'::jsonb"))
    seed: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))

    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    queued_at: Mapped[datetime] = mapped_column(server_default=func.now())
    dispatched_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    attempt: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    losses: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default=false())

    stage: Mapped[str | None]
    progress: Mapped[float] = mapped_column(default=0.0, server_default=text("0"))
    scalars: Mapped[Json] = mapped_column(default=dict, server_default=text("'{}'::jsonb"))

    reading: Mapped[Json | None]
    forecast: Mapped[Json | None]
    verdict: Mapped[str | None]
    score: Mapped[float | None]
    threshold: Mapped[float | None]
    failure: Mapped[Json | None]

    encoder: Mapped[Encoder | None] = relationship(lazy="joined", innerjoin=False)
    dataset: Mapped[Dataset | None] = relationship(lazy="joined", innerjoin=False)

    __table_args__ = (
        CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", "state"),
        CheckConstraint("progress BETWEEN 0 AND 1", "progress"),
        CheckConstraint("(state = 'running') = (lease_expires_at IS NOT NULL)", "lease_only_while_running"),
        CheckConstraint("(state = 'failed') = (failure IS NOT NULL)", "failure_only_when_failed"),
        CheckConstraint(
            "(state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", "finished_when_terminal"
        ),
        Index(None, "created_at", "id"),
        Index("ix_audits_lease", "lease_expires_at", postgresql_where=text("state = 'running'")),
        Index("ix_audits_waiting", "queued_at", postgresql_where=text("state = 'queued'")),
    )


class Artifact(Base):
    """A file an audit left behind; rows appear only in the transaction that finishes the audit."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("audit_id", "name"), CheckConstraint("size >= 0", "size"))

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    audit_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("audits.id", ondelete="CASCADE"))
    name: Mapped[str]
    media_type: Mapped[str]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    object_key: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Checkpoint(Base):
    """The saved state of one stage of a running audit: after a crash the stage goes on at ``step`` of ``total``."""

    __tablename__ = "checkpoints"

    audit_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("audits.id", ondelete="CASCADE"), primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    step: Mapped[int]
    total: Mapped[int]
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str]
    object_key: Mapped[str]
    saved_at: Mapped[datetime] = mapped_column(server_default=func.now())


class IdempotencyKey(Base):
    """The answer to a request with an ``Idempotency-Key``, kept to be replayed. ``status`` null: still in flight."""

    __tablename__ = "idempotency_keys"

    scope: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    status: Mapped[int | None] = mapped_column(SmallInteger)
    headers: Mapped[Json | None]
    body: Mapped[Json | None]
    audit_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("audits.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
