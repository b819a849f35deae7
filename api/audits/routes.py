"""``/audits`` over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from api.audits import results
from api.audits.schemas import ArtifactList, ArtifactView, AuditPage, AuditView, audit_view
from api.audits.service import check_submission, submit
from api.audits.submission import read_submission
from api.dependencies import Service, ServiceDep
from api.downloads import download, matches
from api.errors import RequestProblem
from api.paging import decode_cursor, encode_cursor
from api.problems import problems
from api.quarantine import quarantine
from api.storage.artifacts import list_artifacts
from api.storage.audit_states import AuditState
from api.storage.audits import list_audits, request_cancel
from api.storage.tables import Audit

router = APIRouter(prefix="/audits", tags=["audits"])

_WORD = r"^[a-z][a-z0-9_-]*$"
_NAME = r"^[A-Za-z0-9._-]{1,200}$"
_KEY = re.compile(r'"?([\x21\x23-\x7e]{1,200})"?')
_HTML_POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_MULTIPART: dict[str, Any] = {
    "schema": {
        "type": "object",
        "properties": {
            "encoder": {"type": "string", "format": "binary", "description": "safetensors or a PyTorch checkpoint"},
            "images": {
                "type": "string",
                "format": "binary",
                "description": "clean images, or for cleanse the suspect ones: zip, tar, table, array",
            },
            "kind": {"type": "string", "default": "detect", "description": "one of GET /methods"},
            "card": {"type": "string", "description": "JSON: what the weights are, if the file does not say"},
            "copy": {"type": "string", "description": "which copy of the encoder, where its file holds several"},
            "parameters": {"type": "string", "description": "JSON object; GET /methods has the schema"},
            "seed": {"type": "integer", "default": 0, "minimum": 0},
        },
    }
}


@router.post(
    "",
    operation_id="submitAudit",
    summary="Submit an encoder, or a set of images, for an audit",
    status_code=202,
    response_model=AuditView,
    response_model_exclude_none=True,
    responses=problems(400, 409, 413, 415, 422, 503, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": _MULTIPART,
                "application/json": {"schema": {"$ref": "#/components/schemas/AuditSubmission"}},
            },
        }
    },
)
async def submit_audit(
    request: Request,
    service: ServiceDep,
    idempotency_key: Annotated[
        str | None, Header(description="repeat a request under the same key and it is done only once")
    ] = None,
) -> Response:
    """Send the files in a form, or name files uploaded before in JSON. Answers at once; follow `Location`."""
    key = _read_key(idempotency_key)
    with quarantine(service.settings.upload_directory) as folder:
        wanted, files = await read_submission(request, service.settings, folder)
        checked = await asyncio.to_thread(check_submission, service, wanted, files)
        answer = await asyncio.to_thread(submit, service, checked, key)
    if answer.queue is not None:
        await asyncio.to_thread(service.doorbell.ring, answer.audit_id, answer.queue)
    return JSONResponse(answer.body, status_code=answer.status, headers=answer.headers)


@router.get(
    "",
    operation_id="listAudits",
    summary="List audits, newest first",
    response_model=AuditPage,
    response_model_exclude_none=True,
    responses=problems(422, 503),
)
def get_audits(
    service: ServiceDep,
    response: Response,
    cursor: Annotated[str | None, Query(max_length=200, description="'next' of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    state: Annotated[AuditState | None, Query()] = None,
    kind: Annotated[str | None, Query(max_length=100, pattern=_WORD)] = None,
    verdict: Annotated[str | None, Query(max_length=100, pattern=_WORD)] = None,
) -> AuditPage:
    """Pages are stable while new audits arrive."""
    after = decode_cursor(cursor)
    with service.sessions() as session:
        rows = list_audits(session, limit=limit + 1, after=after, state=state, kind=kind, verdict=verdict)
        page = rows[:limit]
        more = encode_cursor((page[-1].created_at, page[-1].id)) if len(rows) > limit else None
        return AuditPage(items=[audit_view(row, service.catalog) for row in page], next=more)


@router.get(
    "/{audit_id}",
    operation_id="getAudit",
    summary="Follow an audit",
    response_model=AuditView,
    response_model_exclude_none=True,
    responses={304: {"description": "Not changed since the `ETag` sent in `If-None-Match`"}, **problems(404, 422, 503)},
)
def get_audit_by_id(audit_id: uuid.UUID, request: Request, service: ServiceDep) -> Response:
    """While the audit goes on, `Retry-After` says when to ask again."""
    with service.sessions() as session:
        audit = results.find_audit(session, audit_id)
        return _audit_response(request, service, audit)


@router.post(
    "/{audit_id}/cancel",
    operation_id="cancelAudit",
    summary="Ask an audit to stop",
    status_code=202,
    response_model=AuditView,
    response_model_exclude_none=True,
    responses=problems(404, 409, 422, 503),
)
def cancel_audit(audit_id: uuid.UUID, service: ServiceDep) -> Response:
    """A queued audit stops at once, a running one at its next step. Asking again changes nothing."""
    with service.sessions.begin() as session:
        audit = request_cancel(session, audit_id)
        if audit is None:
            raise RequestProblem(404, "unknown_audit", f"There is no audit {audit_id}.")
        state = AuditState(audit.state)
        if state in (AuditState.SUCCEEDED, AuditState.FAILED):
            raise RequestProblem(409, "audit_finished", f"The audit has already {state}; it cannot be cancelled.")
        body = audit_view(audit, service.catalog).model_dump(mode="json", exclude_none=True)
    headers = {"Location": f"/audits/{audit_id}"}
    return JSONResponse(body, status_code=202, headers=headers)


@router.get(
    "/{audit_id}/report",
    operation_id="getReport",
    summary="Read the report",
    response_class=Response,
    responses={
        200: {
            "description": "The report; the page is self-contained",
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "text/html": {"schema": {"type": "string"}},
            },
        },
        **problems(404, 406, 409, 422, 503),
    },
)
def get_report(
    audit_id: uuid.UUID,
    request: Request,
    service: ServiceDep,
    accept: Annotated[str, Header(description="application/json (default) or text/html")] = "*/*",
) -> Response:
    """As JSON, or as a page for people, by `Accept`."""
    return _artifact_response(audit_id, _report_for(accept), request, service, {"Vary": "Accept"})


@router.get(
    "/{audit_id}/artifacts",
    operation_id="listArtifacts",
    summary="List the files an audit left",
    response_model=ArtifactList,
    responses=problems(404, 422, 503),
)
def get_artifacts(audit_id: uuid.UUID, service: ServiceDep) -> ArtifactList:
    """Empty until the audit has succeeded."""
    with service.sessions() as session:
        audit = results.find_audit(session, audit_id)
        rows = list_artifacts(session, audit.id)
    return ArtifactList(
        items=[
            ArtifactView(
                name=row.name,
                media_type=row.media_type,
                size=row.size,
                sha256=row.sha256,
                href=f"/audits/{audit_id}/artifacts/{row.name}",
            )
            for row in rows
        ]
    )


_FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": {"application/octet-stream": {}}},
    206: {"description": "The part asked for by `Range`", "content": {"application/octet-stream": {}}},
    304: {"description": "Not changed since the `ETag` sent in `If-None-Match`"},
    **problems(404, 409, 416, 422, 503),
}


@router.get(
    "/{audit_id}/artifacts/{name}",
    operation_id="getArtifact",
    summary="Download a file an audit left",
    response_class=Response,
    responses=_FILE_RESPONSES,
)
@router.head("/{audit_id}/artifacts/{name}", include_in_schema=False)
def get_artifact_by_name(
    audit_id: uuid.UUID, name: Annotated[str, Path(pattern=_NAME)], request: Request, service: ServiceDep
) -> Response:
    """`Range`, `ETag` and `Repr-Digest` are supported."""
    return _artifact_response(audit_id, name, request, service, {})


@router.get(
    "/{audit_id}/encoder",
    operation_id="getPurifiedEncoder",
    summary="Download the purified encoder",
    response_class=Response,
    responses=_FILE_RESPONSES,
)
@router.head("/{audit_id}/encoder", include_in_schema=False)
def get_purified_encoder(audit_id: uuid.UUID, request: Request, service: ServiceDep) -> Response:
    """In the form in which the encoder came: same keys, same kind of file. `Range` and `ETag` are supported."""
    with service.sessions() as session:
        results.require_encoder(results.find_audit(session, audit_id), service.catalog)
        audit, artifact = results.find_result(
            session, audit_id, results.ENCODER, poll_seconds=service.settings.poll_seconds
        )
        given = PurePosixPath(audit.encoder.filename if audit.encoder else results.ENCODER)
    return download(request, service.objects, artifact, filename=f"{given.stem}.purified{given.suffix}")


def _read_key(header: str | None) -> str | None:
    if header is None:
        return None
    match = _KEY.fullmatch(header)
    if match is None:
        raise RequestProblem(
            400, "invalid_idempotency_key", "The Idempotency-Key must be 1 to 200 printable ASCII characters."
        )
    return match.group(1)


def _audit_response(request: Request, service: Service, audit: Audit) -> Response:
    view = audit_view(audit, service.catalog)
    body = view.model_dump_json(exclude_none=True).encode()
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": "private, no-cache"}
    if not view.state.terminal:
        headers["Retry-After"] = str(service.settings.poll_seconds)
    if matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def _artifact_response(
    audit_id: uuid.UUID, name: str, request: Request, service: Service, headers: dict[str, str]
) -> Response:
    with service.sessions() as session:
        _, artifact = results.find_result(session, audit_id, name, poll_seconds=service.settings.poll_seconds)
    media_type = artifact.media_type.split(";")[0]
    if media_type == "text/html":  # made by us, and still given no power over this origin
        headers = {**headers, "Content-Security-Policy": _HTML_POLICY}
    inline = media_type in ("application/json", "text/html") or media_type.startswith("image/")
    return download(request, service.objects, artifact, filename=None if inline else artifact.name, headers=headers)


def _report_for(accept: str) -> str:
    """The artifact that suits ``Accept`` best; JSON where both suit."""
    weights = {"application/json": 0.0, "text/html": 0.0}
    for entry in accept.lower().split(","):
        media_type, *options = (part.strip() for part in entry.split(";"))
        weight = next((_weight(option[2:]) for option in options if option.startswith("q=")), 1.0)
        for known in weights:
            if media_type in (known, known.split("/")[0] + "/*", "*/*"):
                weights[known] = max(weights[known], weight)
    if not any(weights.values()):
        raise RequestProblem(406, "not_acceptable", "The report is there as application/json and as text/html.")
    return results.REPORT_HTML if weights["text/html"] > weights["application/json"] else results.REPORT_JSON


def _weight(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
