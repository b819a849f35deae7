"""Real worker processes under Celery: killed, stopped, cancelled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.embedded.stack import Stack
from api.storage import artifacts, audits, checkpoints
from api.storage.audit_states import AuditState
from api.storage.objects import ObjectStore
from api.storage.queue import create_celery, publish
from api.storage.session import Sessions
from api.storage.settings import StorageSettings
from api.storage.tables import Audit

SCRIPT = Path(__file__).with_name("counting_worker.py")
PATIENCE = 60.0

AuditRow = Callable[[uuid.UUID], Audit]
Submit = Callable[..., uuid.UUID]
Ring = Callable[[uuid.UUID], None]


class WorkerProcess:
    """One worker at a time, in a process group of its own; it lives from test to test unless a test ends it."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.log = log

    def run(self) -> subprocess.Popen[bytes]:
        """The worker, started if there is none."""
        if self._process is None or self._process.poll() is not None:
            with self.log.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, str(SCRIPT)],
                    env=self._environment,
                    stderr=output,
                    stdout=output,
                    start_new_session=True,
                )
        return self._process

    def kill(self) -> None:
        """SIGKILL to the main process and its children."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def until(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}\n{self.log.read_text()}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def worker(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    folder = tmp_path_factory.mktemp("worker")
    environment = {
        **os.environ,
        **stack.environment(),
        "WORKER_DEVICE": "cpu",
        "WORKER_SCRATCH": str(folder / "scratch"),
        "WORKER_AUDITS_PER_PROCESS": "100",
        "CPU_THREADS": "1",
        "LEASE_SECONDS": "3",
        "TICK_SECONDS": "0.1",
        "CHECKPOINT_SECONDS": "0.1",
        "SWEEP_SECONDS": "0.5",
    }
    process = WorkerProcess(environment, folder / "worker.log")
    yield process
    process.kill()


def report_of(objects: ObjectStore, sessions: Sessions, audit_id: uuid.UUID) -> dict[str, object]:
    with sessions.begin() as session:
        (artifact,) = artifacts.list_artifacts(session, audit_id)
    return dict(json.loads(b"".join(objects.read(artifact.object_key))))


@pytest.fixture
def ring(storage_settings: StorageSettings) -> Ring:
    celery = create_celery(storage_settings)
    return lambda audit_id: publish(celery, audit_id, "cpu")


def saved_steps(sessions: Sessions, audit_id: uuid.UUID) -> dict[str, int]:
    with sessions.begin() as session:
        return {row.stage: row.step for row in checkpoints.list_checkpoints(session, audit_id)}


def test_a_killed_worker_s_audit_goes_on_at_the_saved_step(
    sessions: Sessions,
    objects: ObjectStore,
    submit: Submit,
    audit_row: AuditRow,
    ring: Ring,
    worker: WorkerProcess,
) -> None:
    audit_id = submit(parameters={"steps": 20, "seconds": 0.1})
    worker.run()
    ring(audit_id)
    worker.until(lambda: saved_steps(sessions, audit_id).get("second", 0) >= 5, "a checkpoint")
    worker.kill()
    saved = saved_steps(sessions, audit_id)
    assert saved["first"] == 20
    assert saved["second"] < 20
    assert audit_row(audit_id).state == AuditState.RUNNING
    worker.run()
    worker.until(lambda: audit_row(audit_id).state == AuditState.SUCCEEDED, "the end")
    audit = audit_row(audit_id)
    assert (audit.attempt, audit.losses, audit.verdict, audit.progress) == (2, 1, "clean", 1.0)
    report = report_of(objects, sessions, audit_id)
    assert report["sums"] == [190, 190]
    assert report["steps_here"] == {"first": [], "second": list(range(saved["second"], 20))}
    assert saved_steps(sessions, audit_id) == {}
    worker.until(lambda: objects.list_keys(f"checkpoints/{audit_id}/") == [], "the deletion of the checkpoints")


def test_a_running_audit_stops_when_asked(
    sessions: Sessions,
    objects: ObjectStore,
    submit: Submit,
    audit_row: AuditRow,
    ring: Ring,
    worker: WorkerProcess,
) -> None:
    audit_id = submit(parameters={"steps": 2000, "seconds": 0.05})
    worker.run()
    ring(audit_id)
    worker.until(lambda: audit_row(audit_id).progress > 0, "progress")
    with sessions.begin() as session:
        asked = audits.request_cancel(session, audit_id)
    assert asked is not None
    assert (asked.state, asked.cancel_requested) == (AuditState.RUNNING, True)
    worker.until(lambda: audit_row(audit_id).state == AuditState.CANCELLED, "the cancellation")
    worker.until(lambda: objects.list_keys(f"checkpoints/{audit_id}/") == [], "the deletion of the checkpoints")


def test_sigterm_hands_the_audit_back_without_counting_it_as_a_loss(
    sessions: Sessions, submit: Submit, audit_row: AuditRow, ring: Ring, worker: WorkerProcess
) -> None:
    audit_id = submit(parameters={"steps": 2000, "seconds": 0.05})
    process = worker.run()
    ring(audit_id)
    worker.until(lambda: audit_row(audit_id).progress > 0, "progress")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(PATIENCE) == 0, worker.log.read_text()
    audit = audit_row(audit_id)
    assert (audit.state, audit.losses, audit.dispatched_at) == (AuditState.QUEUED, 0, None)
    assert saved_steps(sessions, audit_id)["first"] > 0


def test_a_worker_without_settings_says_which_are_missing() -> None:
    bare = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH")}
    answer = subprocess.run([sys.executable, str(SCRIPT)], env=bare, capture_output=True, text=True, check=False)
    assert answer.returncode == 2
    assert "DATABASE_URL is not set" in answer.stderr
    assert "S3_BUCKET is not set" in answer.stderr
    assert "Traceback" not in answer.stderr
