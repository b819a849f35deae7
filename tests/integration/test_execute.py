"""One audit on a worker, from claim to the last object: in this process, on the real database and object storage."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from api.storage import artifacts, audits, checkpoints, leases
from api.storage.audit_states import AuditState
from api.storage.objects import ObjectMissing, ObjectStore
from api.storage.session import Sessions
from api.storage.settings import StorageSettings
from api.storage.tables import Audit
from core.audit import AuditOutcome, AuditRequest
from core.errors import AuditFailed, UnsupportedInput
from core.run import Run
from tests.integration.counting import FORECAST, CountState, count
from worker.execute import WorkerContext, execute

AuditRow = Callable[[uuid.UUID], Audit]
Submit = Callable[..., uuid.UUID]


class Crash(BaseException):
    """Ends an attempt as SIGKILL would: no handler of the worker runs."""


def crash_after(stage: str, steps: int) -> Callable[[AuditRequest, Path, Run], AuditOutcome]:
    """Counts like ``count``, but dies in ``stage`` once ``steps`` of its steps are saved."""

    def run_audit(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        for name in ("first", "second"):
            state = CountState()
            for step in run.steps(name, 10, state=state):
                if name == stage and step == steps:
                    raise Crash
                state.total += step
        raise AssertionError("should have crashed")

    return run_audit


def raising(error: Exception) -> Callable[[AuditRequest, Path, Run], AuditOutcome]:
    def run_audit(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        for _ in run.steps("first", 2, state=CountState()):
            pass
        raise error

    return run_audit


def lose_lease(sessions: Sessions, audit_id: uuid.UUID) -> None:
    """Time passes, and the sweep takes the audit back."""
    with sessions.begin() as session:
        session.execute(
            text("UPDATE audits SET lease_expires_at = now() - interval '1 second' WHERE state = 'running'")
        )
        swept = leases.take_back_lost(session, max_losses=3)
    assert [waiting.audit_id for waiting in swept.requeued] == [audit_id]


def report_of(context: WorkerContext, audit_id: uuid.UUID) -> dict[str, object]:
    with context.sessions.begin() as session:
        (artifact,) = artifacts.list_artifacts(session, audit_id)
    return dict(json.loads(b"".join(context.objects.read(artifact.object_key))))


def test_an_audit_from_claim_to_result(context: WorkerContext, submit: Submit, audit_row: AuditRow) -> None:
    audit_id = submit(parameters={"steps": 4})
    execute(audit_id, context, count)
    audit = audit_row(audit_id)
    assert (audit.state, audit.verdict, audit.score, audit.threshold) == (AuditState.SUCCEEDED, "clean", 0.25, 0.5)
    assert (audit.progress, audit.stage, audit.failure, audit.lease_owner) == (1.0, None, None, None)
    assert audit.reading == {
        "audited": "counted at 1x1.",
        "assumptions": ["Ten fingers."],
        "image_notes": ["Two of them are one."],
    }
    assert audit.forecast == {"passes": 100, "seconds_low": 1.0, "seconds_high": 2.0, "memory_bytes": 1000}
    report = report_of(context, audit_id)
    assert report["sums"] == [6, 6]
    assert (report["encoder"], report["images"], report["seed"]) == ("weights", "images", 7)
    assert context.objects.list_keys(f"checkpoints/{audit_id}/") == []
    assert list(context.settings.worker_scratch.iterdir()) == []


def test_the_workers_time_limit_lets_in_or_not_but_never_stops(
    context: WorkerContext, submit: Submit, audit_row: AuditRow, sessions: Sessions
) -> None:
    limited = replace(context, settings=context.settings.model_copy(update={"worker_time_limit": 60.0}))
    seen: list[float | None] = []

    def dies_when_begun(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        seen.append(request.time_limit)
        request.on_forecast(FORECAST)
        raise Crash

    audit_id = submit()
    for _ in range(2):
        with pytest.raises(Crash):
            execute(audit_id, limited, dies_when_begun)
        lose_lease(sessions, audit_id)
    assert seen == [60.0, None]
    assert audit_row(audit_id).forecast is not None


def test_a_redelivered_message_does_nothing(context: WorkerContext, submit: Submit, audit_row: AuditRow) -> None:
    audit_id = submit()
    execute(audit_id, context, count)
    before = audit_row(audit_id)
    execute(audit_id, context, raising(AssertionError("must not run again")))
    after = audit_row(audit_id)
    assert (after.state, after.attempt, after.finished_at) == (before.state, 1, before.finished_at)


def test_an_unknown_id_does_nothing(context: WorkerContext) -> None:
    execute(uuid.uuid4(), context, raising(AssertionError("must not run")))


@pytest.mark.parametrize(("stage", "steps"), [("first", 3), ("first", 9), ("second", 0), ("second", 7)])
def test_a_crashed_attempt_is_resumed_where_it_was_saved(
    context: WorkerContext, submit: Submit, audit_row: AuditRow, sessions: Sessions, stage: str, steps: int
) -> None:
    audit_id = submit(parameters={"steps": 10})
    every_step = replace(context, settings=context.settings.model_copy(update={"checkpoint_seconds": 1e-9}))
    with pytest.raises(Crash):
        execute(audit_id, every_step, crash_after(stage, steps))
    with sessions.begin() as session:
        saved = {row.stage: row.step for row in checkpoints.list_checkpoints(session, audit_id)}
    assert audit_row(audit_id).state == AuditState.RUNNING
    lose_lease(sessions, audit_id)
    execute(audit_id, context, count)
    report = report_of(context, audit_id)
    assert report["sums"] == [45, 45], "the same result as an unbroken run"
    assert report["steps_here"] == {
        "first": list(range(saved.get("first", 0), 10)),
        "second": list(range(saved.get("second", 0), 10)),
    }
    if stage == "second":
        assert saved["first"] == 10
    assert audit_row(audit_id).attempt == 2


def test_a_lost_checkpoint_only_costs_time(
    context: WorkerContext, submit: Submit, sessions: Sessions, audit_row: AuditRow
) -> None:
    audit_id = submit(parameters={"steps": 10})
    with pytest.raises(Crash):
        execute(audit_id, context, crash_after("second", 2))
    context.objects.delete_prefix(f"checkpoints/{audit_id}/")
    lose_lease(sessions, audit_id)
    execute(audit_id, context, count)
    report = report_of(context, audit_id)
    assert report["sums"] == [45, 45]
    assert report["steps_here"] == {"first": list(range(10)), "second": list(range(10))}


def test_a_worker_that_lost_its_lease_stops_and_leaves_nothing(
    context: WorkerContext, other_context: WorkerContext, submit: Submit, sessions: Sessions, audit_row: AuditRow
) -> None:
    audit_id = submit(parameters={"steps": 3})

    def slow(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        """Loses the lease at its end, to a worker that finishes first."""
        outcome = count(replace(request, parameters={"steps": 3}), output, run)
        lose_lease(sessions, audit_id)
        execute(audit_id, other_context, count)
        assert audit_row(audit_id).state == AuditState.SUCCEEDED
        return outcome

    execute(audit_id, context, slow)
    audit = audit_row(audit_id)
    assert (audit.state, audit.attempt, audit.verdict) == (AuditState.SUCCEEDED, 2, "clean")
    assert context.objects.list_keys(f"audits/{audit_id}/") == [f"audits/{audit_id}/2/report.json"]


def test_steps_end_soon_after_the_lease_is_lost(
    context: WorkerContext, submit: Submit, sessions: Sessions, audit_row: AuditRow
) -> None:
    audit_id = submit()
    taken = threading.Event()

    def endless(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        for step in run.steps("first", 10**9):
            if step == 0:
                lose_lease(sessions, audit_id)
                taken.set()
        raise AssertionError("the steps should have been interrupted")

    execute(audit_id, context, endless)
    assert taken.is_set()
    assert audit_row(audit_id).state == AuditState.QUEUED


def test_artifacts_appear_only_when_the_audit_has_finished(
    context: WorkerContext, submit: Submit, sessions: Sessions, audit_row: AuditRow
) -> None:
    audit_id = submit(parameters={"steps": 2})

    class Watching(ObjectStore):
        """Looks into the database just after each upload of a result."""

        seen: list[int]

        def put_file(self, object_key: str, path: Path, media_type: str):  # type: ignore[no-untyped-def]
            stored = super().put_file(object_key, path, media_type)
            if object_key.startswith("audits/"):
                with sessions.begin() as session:
                    self.seen.append(len(artifacts.list_artifacts(session, audit_id)))
                    assert session.get_one(Audit, audit_id).state == AuditState.RUNNING
            return stored

    watching = Watching.__new__(Watching)
    watching.__dict__.update(context.objects.__dict__)
    watching.seen = []
    execute(audit_id, replace(context, objects=watching), count)
    assert watching.seen == [0]
    assert report_of(context, audit_id)["sums"] == [1, 1]


def test_a_fault_of_the_input_is_told_and_inline_uploads_are_deleted(
    context: WorkerContext, submit: Submit, audit_row: AuditRow
) -> None:
    audit_id = submit(inline=True)
    uploaded = audit_row(audit_id)
    assert uploaded.encoder is not None
    assert uploaded.encoder.object_key is not None
    problem = {"field": "encoder", "found": "no tensors", "expected": "weights", "action": "Upload weights."}
    execute(audit_id, context, raising(UnsupportedInput("not_an_encoder", **problem)))
    audit = audit_row(audit_id)
    assert audit.state == AuditState.FAILED
    assert audit.failure == {"code": "not_an_encoder", **problem}
    assert audit.encoder is not None
    assert audit.dataset is not None
    assert (audit.encoder.object_key, audit.dataset.object_key) == (None, None)
    with pytest.raises(ObjectMissing):
        context.objects.read(uploaded.encoder.object_key)
    assert context.objects.list_keys(f"checkpoints/{audit_id}/") == []


@pytest.mark.parametrize("inline", [True, False])
def test_other_failures_keep_the_uploads(
    context: WorkerContext, submit: Submit, audit_row: AuditRow, inline: bool
) -> None:
    audit_id = submit(inline=inline)
    error = (
        AuditFailed("not_finite", field="audit", found="NaN", expected="numbers", action="Try another seed.")
        if inline
        else UnsupportedInput("no_weights", field="encoder", found="x", expected="y", action="z")
    )
    execute(audit_id, context, raising(error))
    audit = audit_row(audit_id)
    assert audit.state == AuditState.FAILED
    assert audit.encoder is not None
    assert audit.encoder.object_key is not None
    assert b"".join(context.objects.read(audit.encoder.object_key)) == b"weights"


def test_an_audit_whose_upload_was_deleted_says_so(
    context: WorkerContext, submit: Submit, audit_row: AuditRow, sessions: Sessions
) -> None:
    audit_id = submit()
    with sessions.begin() as session:
        session.execute(text("UPDATE encoders SET object_key = NULL"))
    execute(audit_id, context, count)
    failure = audit_row(audit_id).failure
    assert failure is not None
    assert (failure["code"], failure["field"]) == ("encoder_deleted", "encoder")


def test_an_upload_that_changed_in_storage_is_not_audited(
    context: WorkerContext, submit: Submit, audit_row: AuditRow, tmp_path: Path
) -> None:
    audit_id = submit()
    encoder = audit_row(audit_id).encoder
    assert encoder is not None
    assert encoder.object_key is not None
    other = tmp_path / "other"
    other.write_bytes(b"other weights")
    context.objects.put_file(encoder.object_key, other, "application/octet-stream")
    execute(audit_id, context, raising(AssertionError("must not run")))
    failure = audit_row(audit_id).failure
    assert failure is not None
    assert failure["code"] == "upload_lost"


def test_object_storage_that_does_not_answer_fails_the_audit(
    context: WorkerContext, submit: Submit, audit_row: AuditRow, storage_settings: StorageSettings
) -> None:
    audit_id = submit()
    nobody_there = storage_settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    execute(audit_id, replace(context, objects=ObjectStore(nobody_there)), count)
    failure = audit_row(audit_id).failure
    assert failure is not None
    assert failure["code"] == "storage_unavailable"


def test_a_fault_of_ours_shows_an_incident_and_no_traceback(
    context: WorkerContext, submit: Submit, audit_row: AuditRow
) -> None:
    audit_id = submit()
    execute(audit_id, context, raising(KeyError("secret detail")))
    failure = audit_row(audit_id).failure
    assert failure is not None
    assert failure["code"] == "internal_error"
    assert failure["incident"] in failure["found"]
    assert "secret" not in json.dumps(failure)


def test_a_cancel_between_steps(
    context: WorkerContext, submit: Submit, audit_row: AuditRow, sessions: Sessions
) -> None:
    audit_id = submit()

    def endless(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        for step in run.steps("first", 10**9):
            if step == 0:
                with sessions.begin() as session:
                    audits.request_cancel(session, audit_id)
        raise AssertionError("the steps should have been interrupted")

    execute(audit_id, context, endless)
    audit = audit_row(audit_id)
    assert (audit.state, audit.attempt) == (AuditState.CANCELLED, 1)


def test_a_stopping_worker_saves_and_hands_back(
    context: WorkerContext, submit: Submit, audit_row: AuditRow, sessions: Sessions
) -> None:
    audit_id = submit()
    stop = threading.Event()
    rarely = context.settings.model_copy(update={"checkpoint_seconds": 3600.0})
    stopping = replace(context, stopping=stop.is_set, settings=rarely)
    state = CountState()

    def endless(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        for step in run.steps("first", 10**9, state=state):
            state.total = state.total + 1
            if step == 10:
                stop.set()
        raise AssertionError("the steps should have been interrupted")

    execute(audit_id, stopping, endless)
    audit = audit_row(audit_id)
    assert (audit.state, audit.losses, audit.dispatched_at) == (AuditState.QUEUED, 0, None)
    with sessions.begin() as session:
        (saved,) = checkpoints.list_checkpoints(session, audit_id)
    assert saved.step == int(state.total), "saved at the step at which it stopped"


def test_a_stuck_audit_loses_its_lease_although_its_process_lives(
    context: WorkerContext, submit: Submit, audit_row: AuditRow, sessions: Sessions
) -> None:
    audit_id = submit()
    stuck = threading.Event()
    impatient = context.settings.model_copy(update={"lease_seconds": 0.5, "stall_seconds": 0.2})

    def hanging(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        for _ in run.steps("first", 2):
            assert stuck.wait(timeout=30), "nobody noticed"
        raise AssertionError("the steps should have been interrupted")

    execute(audit_id, replace(context, settings=impatient, on_stuck=stuck.set), hanging)
    assert stuck.is_set()
    assert audit_row(audit_id).state == AuditState.RUNNING, "the sweep will take it"
    with sessions.begin() as session:
        assert len(leases.take_back_lost(session, max_losses=3).requeued) == 1


def test_a_long_step_keeps_its_lease(
    context: WorkerContext, submit: Submit, audit_row: AuditRow, sessions: Sessions
) -> None:
    audit_id = submit()
    short = context.settings.model_copy(update={"lease_seconds": 0.4})

    def one_long_step(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        claimed = audit_row(audit_id).lease_expires_at
        assert claimed is not None
        deadline = time.monotonic() + 30
        extended = timedelta()
        while extended < timedelta(seconds=1):
            assert time.monotonic() < deadline, "the lease was not extended"
            now = audit_row(audit_id).lease_expires_at
            assert now is not None
            extended = now - claimed
        return count(request, output, run)

    execute(audit_id, replace(context, settings=short), one_long_step)
    assert audit_row(audit_id).state == AuditState.SUCCEEDED
