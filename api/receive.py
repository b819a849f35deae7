"""Receiving one file by itself, for ``POST /encoders`` and ``POST /datasets``: the part ``file``, or the raw body."""

from __future__ import annotations

import asyncio
from pathlib import Path

from fastapi import Request

from api.audits.schemas import FileView
from api.dependencies import Service
from api.errors import input_problem
from api.media_types import media_type_of, unsupported_media_type
from api.preflight import check_file
from api.quarantine import ArrivedFile, quarantine
from api.streaming import FormLayout, read_body, read_form, refuse_announced_size
from api.uploads import discard, store_upload

_PART = "file"


async def receive_upload(
    request: Request, service: Service, name: str, raw_types: tuple[str, ...], filename: str
) -> FileView:
    """Take the file that is the input ``name``, check it, store it and make its row.

    Raises:
        RequestProblem: 400, 413, 415 or 422; then nothing is kept.
    """
    limits = {"encoder": service.settings.max_encoder_bytes, "images": service.settings.max_images_bytes}
    with quarantine(service.settings.upload_directory) as folder:
        file = await _arrive(request, service, folder, limits[name], raw_types, filename)
        return await asyncio.to_thread(_keep, service, name, file)


async def _arrive(
    request: Request, service: Service, folder: Path, limit: int, raw_types: tuple[str, ...], filename: str
) -> ArrivedFile:
    media_type = media_type_of(request)
    if media_type == "multipart/form-data":
        layout = FormLayout(files={_PART: limit}, fields=(), field_limit=service.settings.max_field_bytes)
        form = await read_form(request, layout, folder)
        if _PART not in form.files:
            raise input_problem("missing_file", f"/{_PART}", "The form has no file.", action="Send it as 'file'.")
        return form.files[_PART]
    if media_type not in raw_types:
        raise unsupported_media_type(media_type, " or ".join(["multipart/form-data", *raw_types]))
    refuse_announced_size(request, limit)
    return await read_body(request, _PART, filename, limit, folder)


def _keep(service: Service, name: str, file: ArrivedFile) -> FileView:
    check_file(name, file)
    upload = store_upload(service.objects, name, file)
    committed = False
    try:
        with service.sessions.begin() as session:
            upload.add(session)
        committed = True
    finally:
        if not committed:
            discard(service.objects, [upload])
    return FileView(id=upload.id, filename=upload.file.filename, size=upload.file.size, sha256=upload.file.sha256)
