"""The doorbell: an audit's id, sent to the broker after the commit. The row is the truth; a lost message is resent.

Producer and worker must agree on names and transport, so both build their Celery application here.
"""

from __future__ import annotations

import uuid

from celery import Celery

from api.storage.settings import StorageSettings

TASK_NAME = "encoder_audit.run_audit"

# A message that stays unacknowledged so long is delivered again. Only the lease decides who runs an audit, so this
# merely has to be longer than any audit: a redelivery in between would be refused by the claim.
VISIBILITY_SECONDS = 24 * 3600


def create_celery(settings: StorageSettings) -> Celery:
    """A Celery application that can publish; the worker adds its own settings."""
    celery = Celery("encoder-audit", broker=settings.redis_url)
    celery.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        result_backend=None,
        task_default_queue=settings.audit_queue,
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5},
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_SECONDS,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": 30,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "global_keyprefix": "encoder-audit:",
            "max_retries": 2,
            "interval_start": 0.1,
            "interval_step": 0.2,
            "interval_max": 0.5,
        },
    )
    return celery


def publish(celery: Celery, audit_id: uuid.UUID, queue: str) -> None:
    """Send the id. The message carries nothing else, so that it cannot disagree with the row.

    Raises:
        kombu.exceptions.OperationalError: the broker cannot be reached. The caller may ignore it after logging: the
            workers' sweep sends queued audits again.
    """
    celery.send_task(TASK_NAME, args=[str(audit_id)], queue=queue, ignore_result=True)


def queue_depth(celery: Celery, queue: str) -> int:
    """Messages waiting in ``queue``; 0 for a queue nobody has used yet."""
    with celery.connection_for_read() as connection:
        channel = connection.default_channel
        declared = channel.queue_declare(queue=queue, passive=False)
        return int(declared.message_count)
