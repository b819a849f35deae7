"""Looks after audits that no worker looks after: those of dead workers, and those whose message never arrived.

Runs in a thread of every worker's main process, so that no further service is needed; a lock in the database lets one
of them sweep at a time.
"""

from __future__ import annotations

import threading
from datetime import timedelta

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from api.storage import audits, idempotency, leases, queue
from api.storage.session import Sessions
from worker.settings import WorkerSettings

log = structlog.get_logger()

_UNSENT_FOR = timedelta(seconds=2)
# Behind a queue that is never empty, a message lost by the broker would not be noticed: resend after this long anyway.
_RESEND_REGARDLESS = timedelta(minutes=15)
_KEEP_IDEMPOTENCY_KEYS = timedelta(hours=24)
_BATCH = 100


def sweep(sessions: Sessions, celery: Celery, settings: WorkerSettings, queue_name: str) -> None:
    """Take back audits whose lease has run out and send queued ones of ``queue_name`` that the broker may not know.

    Sending an id twice is harmless: the second claim finds nothing.
    """
    with sessions.begin() as session:
        if not leases.become_sweeper(session):
            return
        swept = leases.take_back_lost(session, max_losses=settings.max_losses)
        idempotency.delete_old_keys(session, _KEEP_IDEMPOTENCY_KEYS)
    for waiting in swept.requeued:
        log.warning("audit taken from a lost worker", audit_id=str(waiting.audit_id))
    for audit_id in swept.given_up:
        log.error("audit given up after lost workers", audit_id=str(audit_id))

    empty = queue.queue_depth(celery, queue_name) == 0
    sent_before = timedelta(seconds=settings.resend_seconds) if empty else _RESEND_REGARDLESS
    with sessions.begin() as session:
        if not leases.become_sweeper(session):
            return
        undelivered = leases.undelivered(
            session, queue_name, unsent_for=_UNSENT_FOR, sent_before=sent_before, limit=_BATCH
        )
        ring = {waiting.audit_id: waiting.queue for waiting in (*swept.requeued, *undelivered)}
        for audit_id, name in ring.items():
            queue.publish(celery, audit_id, name)
        audits.mark_dispatched(session, list(ring))
    if ring:
        log.info("sent to the broker", audits=[str(audit_id) for audit_id in ring])


class Sweeper:
    """The thread that sweeps every ``sweep_seconds`` until stopped."""

    def __init__(self, sessions: Sessions, celery: Celery, settings: WorkerSettings, queue_name: str) -> None:
        self._sessions = sessions
        self._celery = celery
        self._settings = settings
        self._queue_name = queue_name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sweeper", daemon=True)

    def start(self) -> None:
        """Sweep now and from then on."""
        self._thread.start()

    def stop(self) -> None:
        """Return when the running sweep, if any, is done. A worker told to stop before it was ready never started."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                sweep(self._sessions, self._celery, self._settings, self._queue_name)
            except (SQLAlchemyError, OperationalError, RedisError) as error:
                log.warning("sweep failed, trying again", error=str(error).splitlines()[0])
            self._stop.wait(self._settings.sweep_seconds)
