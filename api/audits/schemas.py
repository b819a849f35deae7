"""Audits as JSON: what a client sends and what it reads."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from api.catalog import Catalog
from api.storage.audit_states import AuditState
from api.storage.tables import Audit, Dataset, Encoder

LARGEST_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exact


class FileReference(BaseModel):
    """A file uploaded before, by its id."""

    model_config = ConfigDict(extra="forbid")

    id: uuid.UUID


class AuditSubmission(BaseModel):
    """A request that names files uploaded before. Which files are needed depends on the kind (``GET /methods``):
    ``cleanse`` takes the images that are to be judged, and an encoder that was trained on them if there is one."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "kind": "purify",
                    "encoder": {"id": "5f0c1f0e-8f6b-4b55-9d6b-1f4f4f0f7a10"},
                    "images": {"id": "a3f5b0ce-6b51-4a0d-8a0e-0f3b6b1d2c44"},
                    "parameters": {},
                    "seed": 0,
                }
            ]
        },
    )

    kind: str = "detect"
    encoder: FileReference | None = None
    images: FileReference | None = None
    card: Annotated[dict[str, Any] | None, Field(description="what the weights are, if the file does not say")] = None
    audited_copy: Annotated[
        str | None,
        Field(
            alias="copy",
            min_length=1,
            max_length=200,
            description="which copy of the encoder, where its file holds several: its name or a part of it (teacher)",
        ),
    ] = None
    parameters: dict[str, Any] = {}
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED, strict=True)] = 0


class FileView(BaseModel):
    """A file the service was given."""

    id: uuid.UUID
    filename: Annotated[str, Field(description="the client's name for it")]
    size: Annotated[int, Field(description="bytes")]
    sha256: str


class FailureView(BaseModel):
    """Why an audit failed: what was found, what was expected, what to do."""

    model_config = ConfigDict(extra="allow")

    code: str


class ForecastView(BaseModel):
    """What an audit will cost on the worker that has it, measured before its search begins."""

    passes: Annotated[int, Field(description="images through the encoder if nothing is found")]
    seconds_low: Annotated[float, Field(description="how long it takes if nothing is found")]
    seconds_high: Annotated[float, Field(description="how long if all that may follow does")]
    memory_bytes: Annotated[int, Field(description="expected peak")]


class Links(BaseModel):
    """Where to go from here; a link is there only if it leads somewhere now."""

    self: str
    report: str | None = None
    report_html: str | None = None
    encoder: str | None = None
    artifacts: str | None = None
    cancel: str | None = None


class AuditView(BaseModel):
    """One audit. ``verdict`` is about what was sent, the encoder or for ``cleanse`` the images; it is null until the
    audit has succeeded."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0b6f6a3e-0f5e-4f4f-9a6d-5f0f3f1f2a11",
                    "kind": "purify",
                    "state": "running",
                    "stage": "detect",
                    "progress": 0.42,
                    "forecast": {
                        "passes": 110964,
                        "seconds_low": 720.0,
                        "seconds_high": 1800.0,
                        "memory_bytes": 1181116006,
                    },
                    "seed": 0,
                    "attempt": 1,
                    "cancel_requested": False,
                    "parameters": {},
                    "created_at": "2026-11-21T10:00:00Z",
                    "started_at": "2026-11-21T10:00:01Z",
                    "links": {
                        "self": "/audits/0b6f6a3e-0f5e-4f4f-9a6d-5f0f3f1f2a11",
                        "cancel": "/audits/0b6f6a3e-0f5e-4f4f-9a6d-5f0f3f1f2a11/cancel",
                    },
                }
            ]
        }
    )

    id: uuid.UUID
    kind: str
    state: AuditState
    stage: Annotated[str | None, Field(description="what is being done now")] = None
    progress: Annotated[float, Field(ge=0, le=1, description="share of the work that is done")]
    audited: Annotated[
        str | None,
        Field(description="what was read: architecture, input size and normalisation, on whose word; null until known"),
    ] = None
    assumptions: Annotated[
        list[str] | None,
        Field(description="what had to be assumed to read the encoder and, if wrong, changes every feature"),
    ] = None
    image_notes: Annotated[
        list[str] | None,
        Field(description="how the images were read, where that is of weight: duplicates, entries that were skipped"),
    ] = None
    forecast: Annotated[ForecastView | None, Field(description="what it will cost; null until measured")] = None
    verdict: Annotated[
        str | None, Field(description="backdoored (an encoder), poisoned (a set of images), clean or inconclusive")
    ] = None
    score: float | None = None
    threshold: float | None = None
    failure: FailureView | None = None
    encoder: FileView | None = None
    images: FileView | None = None
    parameters: dict[str, Any]
    seed: int
    attempt: Annotated[int, Field(description="how often a worker has started it; 2 after a worker was lost")]
    cancel_requested: bool
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    links: Links


class AuditPage(BaseModel):
    """A page of audits, newest first."""

    items: list[AuditView]
    next: Annotated[str | None, Field(description="cursor of the next page; absent on the last")] = None


class ArtifactView(BaseModel):
    """A file an audit left behind."""

    name: str
    media_type: str
    size: Annotated[int, Field(description="bytes")]
    sha256: str
    href: str


class ArtifactList(BaseModel):
    """All files of an audit."""

    items: list[ArtifactView]


def file_view(row: Encoder | Dataset) -> FileView:
    """The row of an uploaded file as JSON."""
    return FileView(id=row.id, filename=row.filename, size=row.size, sha256=row.sha256)


def audit_view(audit: Audit, catalog: Catalog) -> AuditView:
    """The row of an audit as JSON."""
    state = AuditState(audit.state)
    return AuditView(
        id=audit.id,
        kind=audit.kind,
        state=state,
        stage=audit.stage,
        progress=audit.progress,
        audited=(audit.reading or {}).get("audited"),
        assumptions=(audit.reading or {}).get("assumptions"),
        image_notes=(audit.reading or {}).get("image_notes"),
        forecast=ForecastView(**audit.forecast) if audit.forecast else None,
        verdict=audit.verdict,
        score=audit.score,
        threshold=audit.threshold,
        failure=FailureView(**audit.failure) if audit.failure else None,
        encoder=file_view(audit.encoder) if audit.encoder else None,
        images=file_view(audit.dataset) if audit.dataset else None,
        parameters=audit.parameters,
        seed=audit.seed,
        attempt=audit.attempt,
        cancel_requested=audit.cancel_requested,
        created_at=audit.created_at,
        started_at=audit.started_at,
        finished_at=audit.finished_at,
        links=_links(audit, state, catalog),
    )


def _links(audit: Audit, state: AuditState, catalog: Catalog) -> Links:
    base = f"/audits/{audit.id}"
    if not state.terminal:
        return Links(self=base, cancel=f"{base}/cancel")
    if state is not AuditState.SUCCEEDED:
        return Links(self=base)
    kind = catalog.kinds.get(audit.kind)
    return Links(
        self=base,
        report=f"{base}/report",
        report_html=f"{base}/artifacts/report.html",
        encoder=f"{base}/encoder" if kind is not None and kind.yields_encoder else None,
        artifacts=f"{base}/artifacts",
    )
