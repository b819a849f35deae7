"""The sweep against the real broker: lost audits and unsent ids come back as messages."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import text

from api.storage import audits, leases
from api.storage.audit_states import AuditState
from api.storage.queue import create_celery, publish, queue_depth
from api.storage.session import Sessions
from api.storage.settings import StorageSettings
from api.storage.tables import Audit
from worker.settings import WorkerSettings
from worker.sweep import Sweeper, sweep

AuditRow = Callable[[uuid.UUID], Audit]
Submit = Callable[..., uuid.UUID]


@pytest.fixture
def queue_name() -> str:
    """A queue nobody listens to."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture
def celery(storage_settings: StorageSettings) -> Iterator[Celery]:
    celery = create_celery(storage_settings)
    yield celery
    celery.close()


def age(sessions: Sessions, column: str) -> None:
    with sessions.begin() as session:
        session.execute(text(f"UPDATE audits SET {column} = now() - interval '100 seconds'"))


def messages(celery: Celery, queue_name: str) -> list[list[str]]:
    """The arguments of all messages waiting, which are taken out."""
    taken = []
    with celery.connection_for_read() as connection:
        with connection.SimpleQueue(queue_name) as queue:
            for _ in range(queue_depth(celery, queue_name)):
                message = queue.get(block=False)
                taken.append(list(message.payload[0]))
                message.ack()
    return taken


def test_a_lost_audit_is_queued_and_sent_at_once(
    sessions: Sessions,
    celery: Celery,
    worker_settings: WorkerSettings,
    submit: Submit,
    audit_row: AuditRow,
    queue_name: str,
) -> None:
    audit_id = submit(queue=queue_name)
    with sessions.begin() as session:
        leases.claim(session, audit_id, owner="dead", lease=timedelta(seconds=-1))
    sweep(sessions, celery, worker_settings, queue_name)
    audit = audit_row(audit_id)
    assert (audit.state, audit.losses) == (AuditState.QUEUED, 1)
    assert audit.dispatched_at is not None
    assert messages(celery, queue_name) == [[str(audit_id)]]


def test_an_id_that_was_never_sent_is_sent_once(
    sessions: Sessions, celery: Celery, worker_settings: WorkerSettings, submit: Submit, queue_name: str
) -> None:
    audit_id = submit(queue=queue_name)
    age(sessions, "queued_at")
    sweep(sessions, celery, worker_settings, queue_name)
    sweep(sessions, celery, worker_settings, queue_name)
    assert messages(celery, queue_name) == [[str(audit_id)]]


def test_an_id_that_the_broker_lost_is_sent_again_but_not_one_that_waits(
    sessions: Sessions, celery: Celery, worker_settings: WorkerSettings, submit: Submit, queue_name: str
) -> None:
    audit_id = submit(queue=queue_name)
    publish(celery, audit_id, queue_name)
    with sessions.begin() as session:
        audits.mark_dispatched(session, [audit_id])
    age(sessions, "dispatched_at")
    sweep(sessions, celery, worker_settings, queue_name)
    assert messages(celery, queue_name) == [[str(audit_id)]], "it waits its turn: not a second message"
    sweep(sessions, celery, worker_settings, queue_name)
    assert messages(celery, queue_name) == [[str(audit_id)]], "the queue is empty: the first message was lost"


def test_while_the_broker_is_away_nothing_counts_as_sent(
    sessions: Sessions,
    storage_settings: StorageSettings,
    celery: Celery,
    worker_settings: WorkerSettings,
    submit: Submit,
    audit_row: AuditRow,
    queue_name: str,
) -> None:
    audit_id = submit(queue=queue_name)
    age(sessions, "queued_at")
    nobody = create_celery(storage_settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}))
    with pytest.raises(OperationalError):
        sweep(sessions, nobody, worker_settings, queue_name)
    assert audit_row(audit_id).dispatched_at is None
    sweep(sessions, celery, worker_settings, queue_name)
    assert messages(celery, queue_name) == [[str(audit_id)]]


def test_a_worker_stopped_before_it_was_ready_stops_a_sweeper_that_never_ran(
    sessions: Sessions, celery: Celery, worker_settings: WorkerSettings, queue_name: str
) -> None:
    sweeper = Sweeper(sessions, celery, worker_settings, queue_name)
    sweeper.stop()
    sweeper.stop()
    sweeper.start()
    sweeper.stop()  # the thread of a sweeper that was told to stop sweeps no more
    assert not any(thread.name == "sweeper" for thread in threading.enumerate())


def test_publishing_without_a_broker_is_an_error_to_catch(storage_settings: StorageSettings) -> None:
    nobody = create_celery(storage_settings.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}))
    with pytest.raises(OperationalError):
        publish(nobody, uuid.uuid4(), "cpu")
