"""Ringing the workers' doorbell after the commit. The row is the truth: a bell that is not heard is rung again."""

from __future__ import annotations

import uuid

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from api.storage.audits import mark_dispatched
from api.storage.queue import create_celery, publish
from api.storage.session import Sessions
from api.storage.settings import StorageSettings

_log = structlog.get_logger("api.queue")


class Doorbell:
    """Tells workers about queued audits."""

    def __init__(self, settings: StorageSettings, sessions: Sessions) -> None:
        self._celery: Celery = create_celery(settings)
        self._sessions = sessions
        self.queue = settings.audit_queue

    def ring(self, audit_id: uuid.UUID, queue: str) -> None:
        """Send the id of a committed audit. A broker that is down costs time, not the audit: the sweep sends it."""
        try:
            publish(self._celery, audit_id, queue)
        except OperationalError as error:
            _log.warning(
                "broker does not answer; the sweep will send the audit", audit_id=str(audit_id), error=str(error)
            )
            return
        with self._sessions.begin() as session:
            mark_dispatched(session, [audit_id])

    def close(self) -> None:
        """Give back the connections."""
        self._celery.close()
