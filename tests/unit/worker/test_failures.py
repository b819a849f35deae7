"""Every kind of exception becomes words for the user."""

from __future__ import annotations

import errno

import pytest
import torch

from api.storage.objects import ObjectDamaged, ObjectMissing, ObjectStoreError
from core.errors import AuditError, AuditFailed, UnsupportedInput, UsageError
from worker.failures import failure_of, input_deleted, is_fault_of_input

WORDS = {"field": "encoder", "found": "a", "expected": "b", "action": "c"}


@pytest.mark.parametrize("kind", [UnsupportedInput, UsageError, AuditFailed])
def test_problems_of_core_are_passed_on_unchanged(kind: type[AuditError]) -> None:
    assert failure_of(kind("some_code", **WORDS)) == {"code": "some_code", **WORDS}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), "out_of_memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out_of_memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (ObjectStoreError("away"), "storage_unavailable"),
        (ObjectMissing("gone"), "upload_lost"),
        (ObjectDamaged("changed"), "upload_lost"),
        (OSError(errno.EACCES, "denied"), "internal_error"),
        (RuntimeError("shape mismatch"), "internal_error"),
    ],
)
def test_the_table(error: Exception, code: str) -> None:
    failure = failure_of(error)
    assert failure["code"] == code
    assert all(failure[name] for name in ("field", "found", "expected", "action"))


def test_torch_s_own_cpu_allocator_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58)
    assert failure_of(caught.value)["code"] == "out_of_memory"


def test_two_faults_of_ours_have_two_incidents() -> None:
    one, two = failure_of(KeyError("private")), failure_of(KeyError("private"))
    assert one["incident"] != two["incident"]
    assert "private" not in str(one)


def test_only_refused_input_counts_as_the_input_s_fault() -> None:
    assert is_fault_of_input(UnsupportedInput("x", **WORDS))
    assert is_fault_of_input(input_deleted("encoder"))
    assert not is_fault_of_input(AuditFailed("x", **WORDS))
    assert not is_fault_of_input(ValueError())
