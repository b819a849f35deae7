"""Submitting an audit: check it against the catalogue, store what came with it, make the row. No HTTP in here."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from api.audits.schemas import AuditSubmission, audit_view
from api.catalog import INPUTS, Kind
from api.dependencies import Service
from api.errors import Fault, RequestProblem, input_problem
from api.preflight import check_file
from api.quarantine import ArrivedFile
from api.storage.audits import NewAudit, create_audit
from api.storage.datasets import get_dataset
from api.storage.encoders import get_encoder
from api.storage.idempotency import find_key, store_response, take_key
from api.storage.tables import IdempotencyKey
from api.uploads import PendingUpload, discard, store_upload

_SCOPE = "POST /audits"


@dataclass(frozen=True)
class Submission:
    """A checked request. ``files`` arrived with it, ``references`` name files uploaded before; both by input name."""

    kind: Kind
    parameters: Mapping[str, Any]
    seed: int
    card: Mapping[str, Any] | None
    files: Mapping[str, ArrivedFile] = field(default_factory=dict)
    references: Mapping[str, uuid.UUID] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """SHA-256 over everything that makes this request what it is; file names and part order do not."""
        content = {
            "kind": self.kind.key,
            "parameters": self.parameters,
            "seed": self.seed,
            "card": self.card,
            "files": {name: file.sha256 for name, file in self.files.items()},
            "references": {name: str(value) for name, value in self.references.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What the client is told; ``ring`` is the queue to announce the audit in, None for a replayed answer."""

    status: int
    headers: dict[str, str]
    body: dict[str, Any]
    audit_id: uuid.UUID
    queue: str | None


def check_submission(service: Service, request: AuditSubmission, files: Mapping[str, ArrivedFile]) -> Submission:
    """Everything that can be known to be wrong without opening the files.

    Raises:
        RequestProblem: 422 with a JSON pointer to each fault.
    """
    kind = service.catalog.find_kind(request.kind)
    named = {"encoder": request.encoder, "images": request.images}
    references = {name: reference.id for name, reference in named.items() if reference is not None}
    faults = [*_check_inputs(kind, {*files, *references}), *kind.check_parameters(request.parameters)]
    card = request.card
    if card is not None or request.audited_copy is not None:
        faults += _check_card_has_encoder(kind, {*files, *references})
    if card is not None and not _names_a_copy_alone(card):
        faults += service.catalog.check_card(card)
    if faults:
        raise RequestProblem(
            422,
            "invalid_request",
            "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults),
            faults=faults,
        )
    for name, file in files.items():
        check_file(name, file)
    if request.audited_copy is not None:  # a card of its own is one that says nothing else
        card = {**(card or {}), "copy": request.audited_copy}
    return Submission(kind, request.parameters, request.seed, card, files, references)


def submit(service: Service, submission: Submission, key: str | None) -> Answer:
    """Store the files and create the audit; or repeat the answer that the same request under ``key`` got before.

    The caller rings the doorbell afterwards: the row is committed when this returns.

    Raises:
        RequestProblem: 404 for ids that do not exist; 409 while the same key is in use, 422 if it was used for another
            request.
    """
    fingerprint = submission.fingerprint()
    if key is not None:
        with service.sessions() as session:
            before = find_key(session, _SCOPE, key)
        if before is not None:
            return _replay(before, fingerprint)
    audit_id = uuid.uuid4()
    stored: list[PendingUpload] = []
    created = False
    try:
        for name, file in submission.files.items():
            stored.append(store_upload(service.objects, name, file))
        with service.sessions.begin() as session:
            if key is not None:
                before = _take_key(session, key, fingerprint)
                if before is not None:
                    return _replay(before, fingerprint)
            ids = {**_checked_references(session, submission), **{each.input: each.add(session) for each in stored}}
            audit = create_audit(
                session,
                NewAudit(
                    kind=submission.kind.key,
                    queue=service.doorbell.queue,
                    encoder_id=ids.get("encoder"),
                    dataset_id=ids.get("images"),
                    card=dict(submission.card) if submission.card is not None else None,
                    parameters=dict(submission.parameters),
                    seed=submission.seed,
                    inline_uploads=bool(stored),
                ),
                audit_id=audit_id,
            )
            body = audit_view(audit, service.catalog).model_dump(mode="json", exclude_none=True)
            headers = {"Location": f"/audits/{audit_id}", "Retry-After": str(service.settings.poll_seconds)}
            if key is not None:
                store_response(session, _SCOPE, key, status=202, headers=headers, body=body, audit_id=audit_id)
        created = True
        return Answer(202, headers, body, audit_id, service.doorbell.queue)
    finally:
        if not created:
            discard(service.objects, stored)


def _check_inputs(kind: Kind, given: set[str]) -> list[Fault]:
    missing = [
        Fault(
            pointer=f"/{name}",
            detail=f"An audit of kind '{kind.key}' needs '{name}'.",
            action=f"Send it as the multipart part '{name}', or name an uploaded one as {{'id': ...}} in JSON.",
        )
        for name in kind.inputs
        if name not in given
    ]
    surplus = [
        Fault(pointer=f"/{name}", detail=f"An audit of kind '{kind.key}' takes no '{name}'.", action="Leave it out.")
        for name in INPUTS
        if name in given and name not in (*kind.inputs, *kind.optional_inputs)
    ]
    return missing + surplus


def _names_a_copy_alone(card: Mapping[str, Any]) -> bool:
    """Whether the card says only which copy is meant; the rest is then read from the file."""
    return isinstance(card.get("copy"), str) and set(card) <= {"format", "copy"}


def _check_card_has_encoder(kind: Kind, given: set[str]) -> list[Fault]:
    """A card, and a copy's name, describe an encoder: where a kind can do without one, a card alone is a mistake."""
    if "encoder" in given or "encoder" not in kind.optional_inputs:
        return []
    action = "Send the encoder too, or leave the card out; the parameters say what is trained where there is none."
    return [Fault(pointer="/card", detail="A card was sent, but no encoder that it describes.", action=action)]


def _checked_references(session: Session, submission: Submission) -> dict[str, uuid.UUID]:
    find = {"encoder": get_encoder, "images": get_dataset}
    for name, file_id in submission.references.items():
        row = find[name](session, file_id)
        if row is None or row.object_key is None:
            gone = "is no longer kept" if row is not None else "does not exist"
            where = {"encoder": "/encoders", "images": "/datasets"}[name]
            raise input_problem(
                "unknown_file",
                f"/{name}/id",
                f"The file {file_id} {gone}.",
                expected=f"an id answered by POST {where}",
                action=f"Upload the file with POST {where} and use the id of the answer.",
                status=422,
            )
    return dict(submission.references)


def _take_key(session: Session, key: str, fingerprint: str) -> IdempotencyKey | None:
    """Take ``key`` for this transaction; the row of an earlier request if there is one.

    Raises:
        RequestProblem: 409, another request with this key is being answered at this moment.
    """
    lock = int.from_bytes(hashlib.sha256(f"{_SCOPE}\n{key}".encode()).digest()[:8], "big", signed=True)
    if not session.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": lock}):
        raise RequestProblem(
            409,
            "idempotency_key_in_use",
            "Another request with this Idempotency-Key is being answered. Repeat yours in a moment.",
            headers={"Retry-After": "1"},
        )
    return take_key(session, _SCOPE, key, fingerprint)


def _replay(before: IdempotencyKey, fingerprint: str) -> Answer:
    if before.fingerprint != fingerprint:
        raise RequestProblem(
            422,
            "idempotency_key_reused",
            "This Idempotency-Key was used for a different request. Use a new key for a new request.",
        )
    if before.status is None or before.audit_id is None:
        raise RequestProblem(
            409, "idempotency_key_in_use", "The request with this Idempotency-Key is still being answered."
        )
    headers = {**{name: str(value) for name, value in (before.headers or {}).items()}, "Idempotent-Replayed": "true"}
    return Answer(before.status, headers, dict(before.body or {}), before.audit_id, None)
