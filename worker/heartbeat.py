"""A thread that keeps the lease of a running audit, reports its progress and listens for a request to stop.

It is no part of the audit's own loop, since one long step would let the lease lapse; and it extends the lease only
while that loop moves, since a thread that still beats proves nothing about an algorithm that hangs.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.storage import leases
from api.storage.session import Sessions
from core.errors import Cancelled
from worker.settings import WorkerSettings

log = structlog.get_logger()


class LeaseLost(Exception):
    """Another worker may have the audit: stop, and write nothing more."""


class WorkerStopping(Exception):
    """The worker is being shut down: the audit goes back to the queue."""


class Heartbeat:
    """Use as a context manager around everything that needs the lease.

    ``stopping`` tells whether the worker is being shut down. ``on_stuck`` is called, once, when the audit has made no
    step for so long that the lease has run out: the process is of no more use.
    """

    def __init__(
        self,
        sessions: Sessions,
        settings: WorkerSettings,
        audit_id: uuid.UUID,
        attempt: int,
        *,
        claimed_at: float,
        stopping: Callable[[], bool],
        on_stuck: Callable[[], None],
    ) -> None:
        self._sessions = sessions
        self._settings = settings
        self._audit_id = audit_id
        self._attempt = attempt
        self._stopping = stopping
        self._on_stuck = on_stuck
        self._guard = threading.Lock()
        self._stage: str | None = None
        self._progress = 0.0
        self._scalars: dict[str, float] = {}
        self._changed = False
        self._moved_at = time.monotonic()
        self._beat_at = claimed_at
        self._lease_until = claimed_at + settings.lease_seconds
        self._cancel = False
        self._lost = False
        self._stop = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def stop_requested(self) -> bool:
        """Whether the worker is being shut down."""
        return self._stop

    @property
    def lease_lost(self) -> bool:
        """Whether the audit may belong to another worker by now."""
        return self._lost or time.monotonic() > self._lease_until

    def moved(self, stage: str, progress: float) -> None:
        """The audit made a step: ``progress`` in [0, 1] of the whole."""
        with self._guard:
            self._stage, self._progress = stage, progress
            self._moved_at = time.monotonic()
            self._changed = True

    def entered(self, stage: str) -> None:
        """The audit began something that has no steps of its own."""
        self.moved(stage, self._progress)

    def logged(self, scalars: Mapping[str, float]) -> None:
        """Numbers to show beside the progress bar; only finite ones, JSON has no others."""
        with self._guard:
            self._scalars |= {name: float(value) for name, value in scalars.items() if abs(value) < float("inf")}
            self._changed = True

    def check(self) -> None:
        """Between two steps: may the audit go on?

        Raises:
            LeaseLost, Cancelled, WorkerStopping: no; in this order of importance.
        """
        if self.lease_lost:
            raise LeaseLost
        if self._cancel:
            raise Cancelled
        if self._stop:
            raise WorkerStopping

    def _beat(self) -> None:
        while not self._ended.wait(self._settings.tick_seconds):
            self._stop = self._stop or self._stopping()
            if not self.lease_lost:
                try:
                    self._tick()
                except SQLAlchemyError as error:
                    log.warning("database unreachable from heartbeat", error=str(error).splitlines()[0])
            elif self._stalled():
                log.error("no step for too long, giving up this process", stage=self._stage)
                self._on_stuck()
                return

    def _tick(self) -> None:
        asked_at = time.monotonic()
        with self._guard:
            due = asked_at - self._beat_at >= self._settings.lease_seconds / 4
            write = (self._changed or due) and not self._stalled()
            stage, progress, scalars = self._stage, self._progress, dict(self._scalars)
            self._changed = self._changed and not write
        with self._sessions.begin() as session:
            if write:
                cancel = leases.heartbeat(
                    session,
                    self._audit_id,
                    self._attempt,
                    lease=self._settings.lease,
                    stage=stage,
                    progress=progress,
                    scalars=scalars,
                )
            else:
                cancel = leases.cancel_requested(session, self._audit_id, self._attempt)
        if cancel is None:
            self._lost = True
            return
        self._cancel = cancel
        if write:
            # Counted from before the question was sent: PostgreSQL's own deadline is later, never earlier.
            self._beat_at = asked_at
            self._lease_until = asked_at + self._settings.lease_seconds

    def _stalled(self) -> bool:
        return time.monotonic() - self._moved_at > self._settings.stall_seconds
