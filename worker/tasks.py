"""The one task: run the audit with this id.

Celery's main process imports this module, and must stay free of torch: a process that has touched CUDA cannot start
children that use it, and has no use for the memory. Hence the imports inside.
"""

from __future__ import annotations

import os
import socket
import uuid

import structlog
from celery import signals

from api.storage.objects import ObjectStore
from api.storage.queue import TASK_NAME
from api.storage.session import create_database_engine, create_sessions
from api.storage.settings import load_storage_settings
from worker.app import celery
from worker.settings import load_worker_settings
from worker.shutdown import stop_watcher

log = structlog.get_logger()

_EXIT_STUCK = 70


def _prepare_process(**_: object) -> None:
    """Pay for the imports while no audit waits."""
    import torch

    import worker.execute  # noqa: F401  (with all of core's algorithms)

    torch.set_num_threads(load_worker_settings().threads)


signals.worker_process_init.connect(_prepare_process)


@celery.task(name=TASK_NAME)  # type: ignore[untyped-decorator]  # Celery ships no types
def run_audit(audit_id: str) -> None:
    """Run the audit, or do nothing if it is not waiting: a repeated message is harmless."""
    import core.audit
    from worker.execute import WorkerContext, execute

    storage = load_storage_settings()
    engine = create_database_engine(storage)
    try:
        context = WorkerContext(
            sessions=create_sessions(engine),
            objects=ObjectStore(storage),
            settings=load_worker_settings(),
            owner=f"{socket.gethostname()}:{os.getpid()}",
            stopping=stop_watcher(),
            on_stuck=_abandon_process,
        )
        execute(uuid.UUID(audit_id), context, core.audit.run_audit)
    finally:
        engine.dispose()


def _abandon_process() -> None:
    """End this process although its main thread hangs; Celery starts another one in its place."""
    os._exit(_EXIT_STUCK)
