"""What an audit left behind: finding it, or saying exactly why it is not there."""

from __future__ import annotations

import uuid

from sqlalchemy.orm import Session

from api.catalog import Catalog
from api.errors import RequestProblem
from api.storage.artifacts import get_artifact
from api.storage.audit_states import AuditState
from api.storage.audits import get_audit
from api.storage.tables import Artifact, Audit

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
ENCODER = "encoder"


def find_audit(session: Session, audit_id: uuid.UUID) -> Audit:
    """The audit.

    Raises:
        RequestProblem: 404.
    """
    audit = get_audit(session, audit_id)
    if audit is None:
        raise RequestProblem(404, "unknown_audit", f"There is no audit {audit_id}.")
    return audit


def find_result(session: Session, audit_id: uuid.UUID, name: str, *, poll_seconds: int) -> tuple[Audit, Artifact]:
    """The artifact ``name`` of an audit that has succeeded.

    Raises:
        RequestProblem: 409 while the audit goes on; 404, saying why, if there is none and never will be.
    """
    audit = find_audit(session, audit_id)
    state = AuditState(audit.state)
    if not state.terminal:
        raise RequestProblem(
            409,
            "audit_not_finished",
            f"The audit is {state}; its results are there when it has succeeded.",
            headers={"Retry-After": str(poll_seconds)},
        )
    if state is AuditState.CANCELLED:
        raise RequestProblem(404, "audit_cancelled", "The audit was cancelled; it has no results.")
    if state is AuditState.FAILED:
        code = (audit.failure or {}).get("code", "unknown")
        raise RequestProblem(
            404, "audit_failed", f"The audit failed ({code}); it has no results. GET /audits/{audit_id} says why."
        )
    artifact = get_artifact(session, audit_id, name)
    if artifact is None:
        raise RequestProblem(
            404,
            "unknown_artifact",
            f"The audit left no such file. GET /audits/{audit_id}/artifacts lists those it left.",
        )
    return audit, artifact


def require_encoder(audit: Audit, catalog: Catalog) -> None:
    """Refuse to look for an encoder that audits of this kind never make.

    Raises:
        RequestProblem: 404, naming the kinds that make one.
    """
    kind = catalog.kinds.get(audit.kind)
    if kind is not None and not kind.yields_encoder:
        makers = ", ".join(each.key for each in catalog.kinds.values() if each.yields_encoder)
        raise RequestProblem(
            404,
            "kind_makes_no_encoder",
            f"An audit of kind '{audit.kind}' makes no encoder; kinds that make one: {makers}.",
        )
