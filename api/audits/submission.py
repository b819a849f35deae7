"""Reading ``POST /audits`` in its two forms: a form with files, or JSON that names uploaded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from pydantic import ValidationError

from api.audits.schemas import AuditSubmission
from api.errors import Fault, RequestProblem, input_problem, pointer_to
from api.json_text import parse_json
from api.media_types import media_type_of, unsupported_media_type
from api.quarantine import ArrivedFile, too_large
from api.settings import ApiSettings
from api.streaming import FormLayout, read_form, refuse_announced_size

_FIELDS = ("kind", "card", "copy", "parameters", "seed")


async def read_submission(
    request: Request, settings: ApiSettings, folder: Path
) -> tuple[AuditSubmission, dict[str, ArrivedFile]]:
    """What the client asks for and the files that came with it, in ``folder``.

    Raises:
        RequestProblem: 400, 413, 415 or 422.
    """
    media_type = media_type_of(request)
    if media_type == "multipart/form-data":
        layout = FormLayout(
            files={"encoder": settings.max_encoder_bytes, "images": settings.max_images_bytes},
            fields=_FIELDS,
            field_limit=settings.max_field_bytes,
        )
        form = await read_form(request, layout, folder)
        return _validated(_from_fields(form.fields)), form.files
    if media_type == "application/json":
        return _validated(_parsed(await _small_body(request, settings.max_field_bytes), "body")), {}
    raise unsupported_media_type(media_type, "multipart/form-data or application/json")


async def _small_body(request: Request, limit: int) -> str:
    refuse_announced_size(request, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large("body", limit)
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestProblem(400, "malformed_json", "The body is not UTF-8 text.") from error


def _from_fields(fields: dict[str, str]) -> dict[str, Any]:
    """A form's text fields as the JSON request would have them."""
    values: dict[str, Any] = {}
    for name in ("kind", "copy"):
        if fields.get(name, "").strip():
            values[name] = fields[name].strip()
    for name in ("card", "parameters"):
        if fields.get(name, "").strip():
            values[name] = _parsed(fields[name], name)
    if fields.get("seed", "").strip():
        try:
            values["seed"] = int(fields["seed"])
        except ValueError as error:
            raise input_problem(
                "invalid_request", "/seed", "The seed is not a whole number.", expected="a whole number from 0"
            ) from error
    return values


def _parsed(text: str, name: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        pointer = "" if name == "body" else f"/{name}"
        detail = f"The {name} is not valid JSON: {str(error)[:200]}."
        if name == "body":
            raise RequestProblem(400, "malformed_json", detail) from error
        raise input_problem("malformed_json", pointer, detail, action="Check quotes and braces.") from error


def _validated(values: Any) -> AuditSubmission:
    try:
        return AuditSubmission.model_validate(values)
    except ValidationError as error:
        faults = [
            Fault(pointer=pointer_to(*fault["loc"]), detail=str(fault["msg"]))
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        detail = "; ".join(f"{fault.pointer or 'body'}: {fault.detail}" for fault in faults)
        raise RequestProblem(422, "invalid_request", detail, faults=faults) from error
