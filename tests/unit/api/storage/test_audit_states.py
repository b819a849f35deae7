"""The life of an audit."""

from __future__ import annotations

import pytest

from api.storage.audit_states import TRANSITIONS, AuditState, sources_of


@pytest.mark.parametrize(
    ("state", "terminal"),
    [("queued", False), ("running", False), ("succeeded", True), ("failed", True), ("cancelled", True)],
)
def test_terminal_states(state: str, terminal: bool) -> None:
    assert AuditState(state).terminal is terminal


def test_only_queued_audits_are_claimed_and_only_running_ones_succeed() -> None:
    assert sources_of(AuditState.RUNNING) == (AuditState.QUEUED,)
    assert sources_of(AuditState.SUCCEEDED) == (AuditState.RUNNING,)


def test_every_state_can_reach_an_end() -> None:
    def reachable(state: AuditState, seen: frozenset[AuditState]) -> frozenset[AuditState]:
        for target in TRANSITIONS[state] - seen:
            seen = reachable(target, seen | {target})
        return seen

    for state in AuditState:
        assert state.terminal or any(target.terminal for target in reachable(state, frozenset({state})))
