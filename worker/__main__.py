"""``python -m worker``: a worker, configured by the environment, until SIGTERM.

SIGTERM lets running audits save their state and return to the queue; SIGKILL loses at most the seconds since their
last checkpoint.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

from celery import signals
from celery.platforms import SecurityWarning
from sqlalchemy.exc import OperationalError

from api.storage.migrate import upgrade
from api.storage.objects import ObjectStore, ObjectStoreError
from api.storage.session import create_database_engine, create_sessions
from api.storage.settings import SettingsError, StorageSettings, load_storage_settings
from worker.logs import configure_logs
from worker.settings import WorkerSettings, load_worker_settings
from worker.shutdown import announce_stop_file, request_stop
from worker.sweep import Sweeper

_EXIT_FAILED = 2


def main() -> int:
    """Check the settings, bring the database up to date, work."""
    try:
        storage, settings = load_storage_settings(), load_worker_settings()
    except SettingsError as error:
        return _refuse(str(error))
    configure_logs()
    fault = _device_fault(settings.worker_device)
    if fault:
        return _refuse(fault)
    try:
        upgrade(create_database_engine(storage))
        ObjectStore(storage).ensure_bucket()
    except OperationalError as error:
        return _refuse(f"DATABASE_URL cannot be reached: {error.orig}")
    except ObjectStoreError as error:
        return _refuse(f"{error} (S3_ENDPOINT_URL, S3_BUCKET and the access keys say where and how)")
    # Read by the numeric libraries when the children import them.
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
    with tempfile.TemporaryDirectory(prefix="encoder-audit-worker-") as folder:
        announce_stop_file(Path(folder) / "stop")
        _work(storage, settings)
    return 0


def _work(storage: StorageSettings, settings: WorkerSettings) -> None:
    from worker.app import celery

    sweeper = Sweeper(create_sessions(create_database_engine(storage)), celery, settings, storage.audit_queue)
    _connect_signals(sweeper)
    # Celery warns of root because of pickled messages; ours are JSON, and hold an id.
    warnings.simplefilter("ignore", SecurityWarning)
    celery.worker_main(
        [
            "--quiet",
            "worker",
            "--queues",
            storage.audit_queue,
            "--loglevel=INFO",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


def _connect_signals(sweeper: Sweeper) -> None:
    def start(**_: object) -> None:
        sweeper.start()

    def stop_audits(**_: object) -> None:
        request_stop()

    def stop(**_: object) -> None:
        sweeper.stop()

    signals.worker_ready.connect(start, weak=False)
    signals.worker_shutting_down.connect(stop_audits, weak=False)
    signals.worker_shutdown.connect(stop, weak=False)


def _device_fault(device: str) -> str | None:
    """Why ``device`` cannot be used; asked in a process of its own, since this one must not touch CUDA."""
    if not device.startswith("cuda"):
        return None
    question = "import sys; from core.device import resolve_device; resolve_device(sys.argv[1])"
    answer = subprocess.run([sys.executable, "-c", question, device], capture_output=True, text=True, check=False)
    return f"WORKER_DEVICE: {answer.stderr.strip().splitlines()[-1]}" if answer.returncode else None


def _refuse(why: str) -> int:
    sys.stderr.write(f"encoder-audit worker: {why}\n")
    return _EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
