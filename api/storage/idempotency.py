"""Answers kept under the client's ``Idempotency-Key``, so that a repeated request gets the first answer again."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from api.storage.tables import IdempotencyKey


def take_key(session: Session, scope: str, key: str, fingerprint: str) -> IdempotencyKey | None:
    """None when the key is new and now ours; otherwise the row of the request that used it first.

    Call it in the transaction that creates the audit: a second request with the key waits here for the first one's
    commit, so the row it sees is complete. The caller compares ``fingerprint``: another one means another request.
    """
    statement = insert(IdempotencyKey).values(scope=scope, key=key, fingerprint=fingerprint)
    taken = session.scalar(
        statement.on_conflict_do_nothing(index_elements=["scope", "key"]).returning(IdempotencyKey.key)
    )
    return None if taken is not None else find_key(session, scope, key)


def find_key(session: Session, scope: str, key: str) -> IdempotencyKey | None:
    """The row of a key used before, or None."""
    return session.get(IdempotencyKey, (scope, key), populate_existing=True)


def store_response(
    session: Session,
    scope: str,
    key: str,
    *,
    status: int,
    headers: dict[str, str],
    body: dict[str, Any],
    audit_id: uuid.UUID | None,
) -> None:
    """Keep the answer to replay."""
    session.execute(
        update(IdempotencyKey)
        .where(IdempotencyKey.scope == scope, IdempotencyKey.key == key)
        .values(status=status, headers=headers, body=body, audit_id=audit_id)
    )


def delete_old_keys(session: Session, older_than: timedelta) -> None:
    """Forget keys created more than ``older_than`` ago."""
    session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < func.now() - older_than))
