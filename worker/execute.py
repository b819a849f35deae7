"""One audit on a worker: claim, fetch, run, store, finish. All the writes about its end are in this file."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api.storage import artifacts, checkpoints, datasets, encoders, leases
from api.storage.files import StoredFile
from api.storage.objects import ObjectStore, ObjectStoreError
from api.storage.session import Sessions
from api.storage.tables import Audit, Checkpoint, Dataset, Encoder
from core.audit import AuditOutcome, AuditRequest
from core.encoders.reading import Reading
from core.errors import Cancelled
from core.forecast.forecast import Forecast
from core.run import Run
from worker.audit_run import AuditRun
from worker.failures import failure_of, input_deleted, is_fault_of_input
from worker.heartbeat import Heartbeat, LeaseLost, WorkerStopping
from worker.scratch import scratch_folder
from worker.settings import WorkerSettings
from worker.stage_checkpoints import StageCheckpoints, checkpoint_prefix

log = structlog.get_logger()

AuditFunction = Callable[[AuditRequest, Path, Run], AuditOutcome]
"""``core.audit.run_audit``, or in tests something faster with the same contract."""

_RETRY_SECONDS = 0.5


@dataclass(frozen=True)
class WorkerContext:
    """What a worker process works with. ``owner`` names it in the row; see Heartbeat for the two callables."""

    sessions: Sessions
    objects: ObjectStore
    settings: WorkerSettings
    owner: str
    stopping: Callable[[], bool]
    on_stuck: Callable[[], None]


def execute(audit_id: uuid.UUID, context: WorkerContext, run_audit: AuditFunction) -> None:
    """Run the audit to its end, unless somebody else has it: then nothing happens.

    However it ends, the row says so; only a lost lease leaves the row to the worker that took over.
    """
    claimed_at = time.monotonic()
    with context.sessions.begin() as session:
        audit = leases.claim(session, audit_id, owner=context.owner, lease=context.settings.lease)
        saved = checkpoints.list_checkpoints(session, audit_id) if audit is not None else ()
    if audit is None:
        log.info("nothing to claim", audit_id=str(audit_id))
        return
    with structlog.contextvars.bound_contextvars(audit_id=str(audit_id), attempt=audit.attempt):
        log.info("audit claimed", kind=audit.kind, checkpoints=len(saved))
        heartbeat = Heartbeat(
            context.sessions,
            context.settings,
            audit.id,
            audit.attempt,
            claimed_at=claimed_at,
            stopping=context.stopping,
            on_stuck=context.on_stuck,
        )
        with heartbeat:
            _Execution(audit, context, heartbeat).run(saved, run_audit)


class _Execution:
    """One attempt at one audit."""

    def __init__(self, audit: Audit, context: WorkerContext, heartbeat: Heartbeat) -> None:
        self._audit = audit
        self._context = context
        self._heartbeat = heartbeat
        self._results = f"audits/{audit.id}/{audit.attempt}/"

    def run(self, saved: Iterable[Checkpoint], run_audit: AuditFunction) -> None:
        try:
            with scratch_folder(self._context.settings.worker_scratch) as folder:
                outcome, stored = self._compute(folder, saved, run_audit)
                self._succeed(outcome, stored)
        except LeaseLost:
            log.warning("lease lost, leaving the audit to its new owner")
            self._delete_objects(self._results)
        except WorkerStopping:
            self._hand_back()
        except Cancelled:
            self._cancel()
        except Exception as error:  # noqa: BLE001  # the end of the line: every fault must reach the row
            self._fail(error)

    def _compute(
        self, folder: Path, saved: Iterable[Checkpoint], run_audit: AuditFunction
    ) -> tuple[AuditOutcome, list[StoredFile]]:
        audit, context = self._audit, self._context
        inputs, output, states = folder / "inputs", folder / "output", folder / "checkpoints"
        for each in (inputs, output, states):
            each.mkdir()
        self._heartbeat.entered("fetching files")
        request = replace(self._fetch(inputs), on_read=self._note_reading, on_forecast=self._note_forecast)
        self._heartbeat.check()
        run = AuditRun(
            self._heartbeat,
            StageCheckpoints(
                context.sessions,
                context.objects,
                states,
                audit.id,
                audit.attempt,
                saved,
                interval_seconds=context.settings.checkpoint_seconds,
            ),
        )
        outcome = run_audit(request, output, run)
        self._heartbeat.check()
        return outcome, self._store(outcome)

    def _note_reading(self, reading: Reading, notes: Sequence[str]) -> None:
        """Let whoever asks for the audit know what was assumed while the search still goes on."""
        audit = self._audit
        said = {"audited": reading.audited, "assumptions": list(reading.assumptions), "image_notes": list(notes)}
        self._write(lambda session: leases.note_reading(session, audit.id, audit.attempt, said))
        self._heartbeat.entered("measuring the encoder")

    def _note_forecast(self, forecast: Forecast) -> None:
        """The same for what the audit will cost."""
        audit, said = self._audit, forecast.summary()
        self._write(lambda session: leases.note_forecast(session, audit.id, audit.attempt, said))

    def _fetch(self, folder: Path) -> AuditRequest:
        audit = self._audit
        images = self._fetch_file(audit.dataset, "images", folder)
        if images is None:
            raise input_deleted("images")
        return AuditRequest(
            kind=audit.kind,
            encoder=self._fetch_file(audit.encoder, "encoder", folder),
            images=images,
            card=audit.card,
            parameters=audit.parameters,
            seed=audit.seed,
            device=self._context.settings.worker_device,
            # An audit that was let in goes on after a worker was lost, whatever the next one measures.
            time_limit=None if audit.forecast else self._context.settings.worker_time_limit,
            memory=self._context.settings.worker_memory,
            encoder_name=audit.encoder.filename if audit.encoder else None,
            images_name=audit.dataset.filename if audit.dataset else None,
        )

    def _fetch_file(self, file: Encoder | Dataset | None, field: str, folder: Path) -> Path | None:
        """The file under a name of ours: the user's own name never becomes a path."""
        if file is None:
            return None
        if file.object_key is None:
            raise input_deleted(field)
        path = folder / field
        self._context.objects.get_file(file.object_key, path, sha256=file.sha256)
        return path

    def _store(self, outcome: AuditOutcome) -> list[StoredFile]:
        """Upload the artifacts under this attempt's own prefix; they are nobody's until the row says so."""
        stored = []
        for artifact in outcome.artifacts:
            self._heartbeat.check()
            self._heartbeat.entered("storing results")
            key = self._results + artifact.name
            done = self._context.objects.put_file(key, artifact.path, artifact.media_type)
            stored.append(StoredFile(artifact.name, artifact.media_type, done.size, done.sha256, key))
        return stored

    def _succeed(self, outcome: AuditOutcome, stored: list[StoredFile]) -> None:
        audit = self._audit
        conclusion = leases.Conclusion(outcome.verdict, outcome.score, outcome.threshold)

        def write(session: Session) -> bool:
            if not leases.finish(session, audit.id, audit.attempt, conclusion):
                return False
            artifacts.add_artifacts(session, audit.id, stored)
            checkpoints.delete_checkpoints(session, audit.id)
            return True

        self._write(write)
        log.info("audit succeeded", verdict=outcome.verdict.value)
        self._delete_objects(checkpoint_prefix(audit.id))
        self._delete_objects(f"audits/{audit.id}/", keep=self._results)

    def _cancel(self) -> None:
        audit = self._audit

        def write(session: Session) -> bool:
            checkpoints.delete_checkpoints(session, audit.id)
            return leases.cancel(session, audit.id, audit.attempt)

        if self._wrote(write):
            log.info("audit cancelled")
            self._delete_leftovers()

    def _fail(self, error: Exception) -> None:
        audit = self._audit
        failure = failure_of(error)
        if "incident" in failure:
            log.error("audit failed", **failure, exc_info=error)
        else:
            log.info("audit failed", **failure, cause=repr(error))
        forget = is_fault_of_input(error) and audit.inline_uploads

        def write(session: Session) -> bool:
            checkpoints.delete_checkpoints(session, audit.id)
            if forget and audit.encoder_id is not None:
                encoders.forget_encoder_object(session, audit.encoder_id)
            if forget and audit.dataset_id is not None:
                datasets.forget_dataset_object(session, audit.dataset_id)
            return leases.fail(session, audit.id, audit.attempt, failure)

        if not self._wrote(write):
            return
        self._delete_leftovers()
        if forget:
            for file in (audit.encoder, audit.dataset):
                if file is not None and file.object_key is not None:
                    self._delete_objects(file.object_key)

    def _hand_back(self) -> None:
        audit = self._audit
        if self._wrote(lambda session: leases.release(session, audit.id, audit.attempt)):
            log.info("worker is stopping, audit handed back to the queue")
            self._delete_objects(self._results)

    def _wrote(self, write: Callable[[Session], bool]) -> bool:
        try:
            self._write(write)
        except LeaseLost:
            log.warning("lease lost, leaving the audit to its new owner")
            return False
        return True

    def _write(self, write: Callable[[Session], bool]) -> None:
        """One transaction, undone when ``write`` says that the lease is lost; tried again while the lease lasts.

        Raises:
            LeaseLost: nothing was written.
        """
        while True:
            try:
                with self._context.sessions.begin() as session:
                    if not write(session):
                        raise LeaseLost
                return
            except OperationalError as error:
                log.warning("database unreachable at the end of an audit", error=str(error).splitlines()[0])
                if self._heartbeat.lease_lost:
                    raise LeaseLost from error
                time.sleep(_RETRY_SECONDS)

    def _delete_leftovers(self) -> None:
        self._delete_objects(checkpoint_prefix(self._audit.id))
        self._delete_objects(f"audits/{self._audit.id}/")

    def _delete_objects(self, prefix: str, *, keep: str | None = None) -> None:
        """Delete what nobody points at any more. The audit has ended by now, so a failure is only logged."""
        try:
            for key in self._context.objects.list_keys(prefix):
                if keep is None or not key.startswith(keep):
                    self._context.objects.delete(key)
        except ObjectStoreError as error:
            log.warning("objects left behind", prefix=prefix, error=str(error))
