"""The one table from exceptions to what a user is told. Tracebacks go to the log only, under an incident number."""

from __future__ import annotations

import errno
import uuid
from typing import Any

import torch

from api.storage.objects import ObjectDamaged, ObjectMissing, ObjectStoreError
from core.errors import AuditError, UnsupportedInput, UsageError

Failure = dict[str, Any]

_TRY_LATER = "Submit the audit again later; nothing is wrong with your files."


def failure_of(error: BaseException) -> Failure:
    """``error`` as a failure: code, field, found, expected, action and, for our own faults, the incident."""
    if isinstance(error, AuditError):
        return dict(error.problem.to_dict())
    if _is_out_of_memory(error):
        return _failure(
            "out_of_memory",
            "audit",
            "that the audit needs more memory than this worker has",
            "an encoder and images that fit into memory",
            "Use fewer images or a smaller encoder; the operator can lower WORKER_MEMORY or enlarge the worker.",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _failure("disk_full", "audit", "a full disk on the worker", "room for the files", _TRY_LATER)
    if isinstance(error, ObjectMissing | ObjectDamaged):
        return _failure(
            "upload_lost",
            "audit",
            "that an uploaded file is no longer in storage as it was uploaded",
            "the bytes that were uploaded",
            "Upload the file again and submit a new audit.",
        )
    if isinstance(error, ObjectStoreError):
        return _failure(
            "storage_unavailable", "audit", "that object storage does not answer", "a storage that does", _TRY_LATER
        )
    incident = uuid.uuid4().hex[:12]
    failure = _failure(
        "internal_error",
        "audit",
        f"a fault of the service, incident {incident}",
        "an audit that ends",
        "Tell the operator the incident number; the log has the details under it.",
    )
    return failure | {"incident": incident}


def is_fault_of_input(error: BaseException) -> bool:
    """Whether the files or the request were refused: what was uploaded for this audit alone is then deleted."""
    return isinstance(error, UnsupportedInput | UsageError)


def input_deleted(field: str) -> AuditError:
    """The error for an audit whose ``encoder`` or ``images`` have been deleted since."""
    return UsageError(
        f"{field}_deleted",
        field=field,
        found="a file whose bytes have been deleted",
        expected="a file that is still stored",
        action="Upload it again and submit a new audit.",
    )


def _failure(code: str, field: str, found: str, expected: str, action: str) -> Failure:
    return {"code": code, "field": field, "found": found, "expected": expected, "action": action}


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # On the CPU torch raises a bare RuntimeError; its allocator's words are the only sign.
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
