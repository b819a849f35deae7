"""Who runs an audit: claim, fencing, sweep. Several sessions stand for several workers."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, update
from sqlalchemy.exc import IntegrityError

from api.storage import audits, checkpoints, leases
from api.storage.audit_states import AuditState
from api.storage.checkpoints import SavedStage
from api.storage.session import Sessions
from api.storage.tables import Audit

LEASE = timedelta(seconds=60)
RUN_OUT = timedelta(seconds=-1)
FAILURE = {"code": "x", "field": "encoder", "found": "a", "expected": "b", "action": "c"}

AuditRow = Callable[[uuid.UUID], Audit]
Submit = Callable[..., uuid.UUID]


def claim(sessions: Sessions, audit_id: uuid.UUID, owner: str = "one", lease: timedelta = LEASE) -> int | None:
    with sessions.begin() as session:
        audit = leases.claim(session, audit_id, owner=owner, lease=lease)
        return None if audit is None else audit.attempt


def sweep(sessions: Sessions, max_losses: int = 3) -> leases.Swept:
    with sessions.begin() as session:
        return leases.take_back_lost(session, max_losses=max_losses)


def beat(sessions: Sessions, audit_id: uuid.UUID, attempt: int, progress: float = 0.5) -> bool | None:
    with sessions.begin() as session:
        return leases.heartbeat(
            session, audit_id, attempt, lease=LEASE, stage="s", progress=progress, scalars={"loss": 1.5}
        )


def test_of_many_workers_one_gets_the_audit(sessions: Sessions, submit: Submit) -> None:
    audit_id = submit()
    start = threading.Barrier(12)
    attempts: list[int | None] = []

    def compete(number: int) -> None:
        start.wait()
        attempts.append(claim(sessions, audit_id, f"worker {number}"))

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(attempts, key=str) == [1, *[None] * 11]


def test_a_claim_sets_lease_and_start_and_a_second_one_finds_nothing(
    sessions: Sessions, submit: Submit, audit_row: AuditRow
) -> None:
    audit_id = submit()
    assert claim(sessions, audit_id) == 1
    assert claim(sessions, audit_id, "two") is None
    audit = audit_row(audit_id)
    assert (audit.state, audit.lease_owner) == (AuditState.RUNNING, "one")
    assert audit.lease_expires_at is not None
    assert audit.started_at is not None
    assert audit.lease_expires_at - audit.started_at == LEASE


def test_a_heartbeat_reports_progress_that_never_goes_back(
    sessions: Sessions, submit: Submit, audit_row: AuditRow
) -> None:
    audit_id = submit()
    assert claim(sessions, audit_id) == 1
    assert beat(sessions, audit_id, 1, progress=0.5) is False
    assert beat(sessions, audit_id, 1, progress=0.2) is False
    audit = audit_row(audit_id)
    assert (audit.progress, audit.stage, audit.scalars) == (0.5, "s", {"loss": 1.5})


def test_a_worker_that_lost_its_lease_writes_nothing(sessions: Sessions, submit: Submit, audit_row: AuditRow) -> None:
    audit_id = submit()
    assert claim(sessions, audit_id, lease=RUN_OUT) == 1
    assert [waiting.audit_id for waiting in sweep(sessions).requeued] == [audit_id]
    assert claim(sessions, audit_id, "two") == 2
    assert beat(sessions, audit_id, 1) is None
    with sessions.begin() as session:
        assert leases.cancel_requested(session, audit_id, 1) is None
        assert not leases.finish(session, audit_id, 1, leases.Conclusion("clean", 0.1, 0.5))
        assert not leases.fail(session, audit_id, 1, FAILURE)
        assert not leases.cancel(session, audit_id, 1)
        assert not leases.release(session, audit_id, 1)
    audit = audit_row(audit_id)
    assert (audit.state, audit.attempt, audit.lease_owner, audit.verdict) == (AuditState.RUNNING, 2, "two", None)
    with sessions.begin() as session:
        assert leases.finish(session, audit_id, 2, leases.Conclusion("backdoored", 0.9, 0.5))
    assert audit_row(audit_id).verdict == "backdoored"


def test_a_worker_that_lost_its_lease_cannot_replace_a_checkpoint(sessions: Sessions, submit: Submit) -> None:
    audit_id = submit()
    assert claim(sessions, audit_id, lease=RUN_OUT) == 1
    with sessions.begin() as session:
        assert checkpoints.record_checkpoint(session, audit_id, 1, SavedStage("s", 3, 9, 1, "0" * 64, "one"))
    sweep(sessions)
    claim(sessions, audit_id, "two")
    with sessions.begin() as session:
        assert checkpoints.record_checkpoint(session, audit_id, 2, SavedStage("s", 5, 9, 1, "0" * 64, "two"))
        assert not checkpoints.record_checkpoint(session, audit_id, 1, SavedStage("s", 4, 9, 1, "0" * 64, "late"))
    with sessions.begin() as session:
        assert [(row.step, row.object_key) for row in checkpoints.list_checkpoints(session, audit_id)] == [(5, "two")]


def test_the_sweep_leaves_a_living_lease_alone(sessions: Sessions, submit: Submit, audit_row: AuditRow) -> None:
    audit_id = submit()
    claim(sessions, audit_id)
    assert sweep(sessions) == leases.Swept((), ())
    assert audit_row(audit_id).state == AuditState.RUNNING


def test_after_three_lost_workers_the_audit_fails(sessions: Sessions, submit: Submit, audit_row: AuditRow) -> None:
    audit_id = submit()
    for attempt in (1, 2):
        assert claim(sessions, audit_id, lease=RUN_OUT) == attempt
        assert [waiting.audit_id for waiting in sweep(sessions).requeued] == [audit_id]
    assert claim(sessions, audit_id, lease=RUN_OUT) == 3
    assert sweep(sessions) == leases.Swept((), (audit_id,))
    audit = audit_row(audit_id)
    assert (audit.state, audit.losses) == (AuditState.FAILED, 3)
    assert audit.failure is not None
    assert audit.failure["code"] == "worker_lost_repeatedly"
    assert claim(sessions, audit_id) is None


def test_handing_back_is_no_loss(sessions: Sessions, submit: Submit, audit_row: AuditRow) -> None:
    audit_id = submit()
    for attempt in range(1, 6):
        assert claim(sessions, audit_id) == attempt
        with sessions.begin() as session:
            assert leases.release(session, audit_id, attempt)
    assert (audit_row(audit_id).state, audit_row(audit_id).losses) == (AuditState.QUEUED, 0)


def test_a_queued_audit_is_cancelled_at_once(sessions: Sessions, submit: Submit) -> None:
    audit_id = submit()
    with sessions.begin() as session:
        audit = audits.request_cancel(session, audit_id)
    assert audit is not None
    assert audit.state == AuditState.CANCELLED
    assert audit.finished_at is not None
    assert claim(sessions, audit_id) is None


def test_a_request_to_cancel_reaches_the_heartbeat_and_outlives_a_lost_worker(
    sessions: Sessions, submit: Submit, audit_row: AuditRow
) -> None:
    audit_id = submit()
    claim(sessions, audit_id, lease=RUN_OUT)
    with sessions.begin() as session:
        audits.request_cancel(session, audit_id)
        assert leases.cancel_requested(session, audit_id, 1) is True
    assert sweep(sessions) == leases.Swept((), ())
    assert audit_row(audit_id).state == AuditState.CANCELLED


def test_a_finished_audit_is_not_cancelled(sessions: Sessions, submit: Submit) -> None:
    audit_id = submit()
    claim(sessions, audit_id)
    with sessions.begin() as session:
        leases.finish(session, audit_id, 1, leases.Conclusion("clean", 0.1, 0.5))
    with sessions.begin() as session:
        audit = audits.request_cancel(session, audit_id)
    assert audit is not None
    assert (audit.state, audit.cancel_requested, audit.verdict) == (AuditState.SUCCEEDED, False, "clean")


def test_cancelling_what_does_not_exist_returns_nothing(sessions: Sessions) -> None:
    with sessions.begin() as session:
        assert audits.request_cancel(session, uuid.uuid4()) is None


def test_one_transaction_sweeps_at_a_time(sessions: Sessions) -> None:
    with sessions.begin() as first, sessions.begin() as second:
        assert leases.become_sweeper(first)
        assert not leases.become_sweeper(second)
    with sessions.begin() as third:
        assert leases.become_sweeper(third)


@pytest.mark.parametrize(
    ("queued_ago", "sent_ago", "expected"),
    [
        (0, None, False),  # just committed: the API is about to send it
        (10, None, True),  # never sent
        (1000, 10, False),  # sent, waits its turn
        (1000, 100, True),  # sent long ago
    ],
)
def test_undelivered_are_those_not_sent_or_sent_long_ago(
    sessions: Sessions, submit: Submit, queued_ago: int, sent_ago: int | None, expected: bool
) -> None:
    audit_id = submit()
    with sessions.begin() as session:
        now = session.scalar(func.now())
        session.execute(
            update(Audit).values(
                queued_at=now - timedelta(seconds=queued_ago),
                dispatched_at=None if sent_ago is None else now - timedelta(seconds=sent_ago),
            )
        )
    with sessions.begin() as session:
        found = leases.undelivered(
            session, "cpu", unsent_for=timedelta(seconds=2), sent_before=timedelta(seconds=60), limit=10
        )
        assert [waiting.audit_id for waiting in found] == ([audit_id] if expected else [])
        assert not leases.undelivered(session, "gpu", unsent_for=timedelta(), sent_before=timedelta(), limit=10)


def test_the_database_itself_refuses_a_state_that_cannot_be(sessions: Sessions, submit: Submit) -> None:
    submit()
    with pytest.raises(IntegrityError, match="ck_audits_state"), sessions.begin() as session:
        session.execute(update(Audit).values(state="paused"))
    with pytest.raises(IntegrityError, match="ck_audits_lease_only_while_running"), sessions.begin() as session:
        session.execute(update(Audit).values(state="running"))
