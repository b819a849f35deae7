"""The life of an audit as data. A request to cancel is a column, not a state."""

from __future__ import annotations

from enum import StrEnum


class AuditState(StrEnum):
    """Where an audit stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the audit has ended and its row will not change again."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[AuditState, frozenset[AuditState]] = {
    # Cancelled before a worker took it; failed when workers died with it too often.
    AuditState.QUEUED: frozenset({AuditState.RUNNING, AuditState.CANCELLED, AuditState.FAILED}),
    # Back to queued: its worker was lost, or stopped and handed it back.
    AuditState.RUNNING: frozenset({AuditState.SUCCEEDED, AuditState.FAILED, AuditState.CANCELLED, AuditState.QUEUED}),
    AuditState.SUCCEEDED: frozenset(),
    AuditState.FAILED: frozenset(),
    AuditState.CANCELLED: frozenset(),
}


def sources_of(target: AuditState) -> tuple[AuditState, ...]:
    """The states from which an audit may become ``target``: the ``WHERE`` of the update that moves it."""
    return tuple(state for state, targets in TRANSITIONS.items() if target in targets)
