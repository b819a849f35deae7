"""The worker's Celery application. Celery starts processes and delivers ids; PostgreSQL decides who runs what."""

from __future__ import annotations

import os

from celery import Celery, signals

from api.storage.queue import create_celery
from api.storage.settings import load_storage_settings
from worker.logs import configure_logs
from worker.settings import load_worker_settings


def create_worker_app() -> Celery:
    """The application with the worker's settings.

    Raises:
        SettingsError: the environment is incomplete.
    """
    settings = load_worker_settings()
    celery = create_celery(load_storage_settings())
    celery.conf.update(
        include=["worker.tasks"],
        # A message counts as done when the audit has ended. It comes back when the process dies, and finds the row
        # claimed: the lease decides when the audit may be run again.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # Without these a busy worker hoards an audit that an idle one could run.
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        # CUDA cannot be used again after a fork, so children are new interpreters; see also worker_audits_per_process.
        worker_pool="prefork",
        worker_pool_start_method="spawn",
        worker_concurrency=settings.worker_slots,
        worker_max_tasks_per_child=settings.worker_audits_per_process,
        worker_proc_alive_timeout=120,  # seconds for a child to import torch, on a busy machine
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    return celery


def _configure_logs(**_: object) -> None:
    configure_logs()


def _leave_logs_to_children(**_: object) -> None:
    # Celery tells the children that it starts to log in a form of its own until they have ours.
    os.environ["_MP_FORK_LOGLEVEL_"] = ""


# Having a receiver keeps Celery from setting up logs of its own.
signals.setup_logging.connect(_configure_logs)
signals.celeryd_after_setup.connect(_leave_logs_to_children)
celery = create_worker_app()
