"""Saved states of an audit's stages: written to object storage while it runs, read back after a crash."""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.storage import checkpoints as rows
from api.storage.objects import ObjectStore, ObjectStoreError
from api.storage.session import Sessions
from api.storage.tables import Checkpoint
from core.checkpoint import load_checkpoint, save_checkpoint
from core.run import StateDict, Stateful
from worker.heartbeat import LeaseLost

log = structlog.get_logger()

# Saving may take at most this share of the time: large states are saved less often.
_SHARE = 0.05
_MEDIA_TYPE = "application/vnd.safetensors"


def checkpoint_prefix(audit_id: uuid.UUID) -> str:
    """Where all checkpoints of an audit lie; they are deleted together when it ends."""
    return f"checkpoints/{audit_id}/"


class StageCheckpoints:
    """The checkpoints of one attempt at one audit. ``saved`` are the rows that the attempts before left."""

    def __init__(
        self,
        sessions: Sessions,
        objects: ObjectStore,
        folder: Path,
        audit_id: uuid.UUID,
        attempt: int,
        saved: Iterable[Checkpoint],
        *,
        interval_seconds: float,
    ) -> None:
        self._sessions = sessions
        self._objects = objects
        self._folder = folder
        self._audit_id = audit_id
        self._attempt = attempt
        self._rows = {row.stage: row for row in saved}
        self._keys = {row.stage: row.object_key for row in self._rows.values()}
        self._interval = interval_seconds
        self._next_save = time.monotonic() + interval_seconds
        # A state is only understood by the code that wrote it: after an update the audit starts again.
        self._version = importlib.metadata.version("encoder-audit")

    def restore(self, stage: str, total: int, state: Stateful) -> int:
        """Load what was saved of ``stage`` into ``state``; returns the step to go on with, 0 when there is nothing."""
        row = self._rows.get(stage)
        if row is None:
            return 0
        path = self._folder / "restored.safetensors"
        try:
            self._objects.get_file(row.object_key, path, sha256=row.sha256)
        except ObjectStoreError as error:
            # The stage can be computed again, so a lost checkpoint costs time and nothing else.
            log.warning("checkpoint cannot be read, stage starts again", stage=stage, error=str(error))
            return 0
        content = load_checkpoint(path)
        path.unlink()
        if content["version"] != self._version or content["total"] != total:
            log.warning("checkpoint is of another version, stage starts again", stage=stage)
            return 0
        state.load_state_dict(content["state"])
        log.info("resumed from checkpoint", stage=stage, step=row.step, total=total)
        return int(content["step"])

    @property
    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() >= self._next_save

    def save(self, stage: str, step: int, total: int, state: Stateful) -> None:
        """Keep the state of ``stage`` with ``step`` of ``total`` steps done.

        A storage that does not answer is no reason to stop the audit: that is logged and tried again later.

        Raises:
            LeaseLost: the audit belongs to another worker.
        """
        began = time.monotonic()
        try:
            self._store(stage, step, total, state.state_dict())
        except (ObjectStoreError, SQLAlchemyError) as error:
            log.warning("checkpoint not saved", stage=stage, step=step, error=str(error).splitlines()[0])
        ended = time.monotonic()
        self._next_save = ended + max(self._interval, (ended - began) / _SHARE)

    def _store(self, stage: str, step: int, total: int, state: StateDict) -> None:
        path = self._folder / "checkpoint.safetensors"
        content = {"version": self._version, "step": step, "total": total, "state": dict(state)}
        save_checkpoint(path, content)
        # The attempt is in the name: a worker that lost its lease cannot overwrite its successor's state.
        name = hashlib.sha256(stage.encode()).hexdigest()[:16]
        key = f"{checkpoint_prefix(self._audit_id)}{self._attempt}-{name}-{step}.safetensors"
        stored = self._objects.put_file(key, path, _MEDIA_TYPE)
        path.unlink()
        saved = rows.SavedStage(stage, step, total, stored.size, stored.sha256, key)
        with self._sessions.begin() as session:
            held = rows.record_checkpoint(session, self._audit_id, self._attempt, saved)
        if not held:
            self._objects.delete(key)
            raise LeaseLost
        old, self._keys[stage] = self._keys.get(stage), key
        if old is not None and old != key:
            self._objects.delete(old)
