"""``/encoders`` over HTTP: upload safetensors or a PyTorch checkpoint once, audit it many times."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from api.audits.schemas import FileView, file_view
from api.dependencies import ServiceDep
from api.errors import RequestProblem
from api.problems import problems
from api.receive import receive_upload
from api.request_bodies import upload_body
from api.storage.encoders import get_encoder

router = APIRouter(prefix="/encoders", tags=["encoders"])

_RAW_TYPES = ("application/octet-stream",)


@router.post(
    "",
    operation_id="uploadEncoder",
    summary="Upload safetensors or a PyTorch checkpoint",
    status_code=201,
    response_model=FileView,
    responses=problems(400, 413, 415, 422, 503, 507),
    openapi_extra=upload_body(_RAW_TYPES),
)
async def upload_encoder(
    request: Request,
    service: ServiceDep,
    filename: Annotated[str, Query(max_length=200, description="name to show, when the file is the raw body")] = "",
) -> Response:
    """As the part `file` of a form, or as the raw body. The id of the answer names it in `POST /audits`."""
    view = await receive_upload(request, service, "encoder", _RAW_TYPES, filename)
    return JSONResponse(view.model_dump(mode="json"), status_code=201, headers={"Location": f"/encoders/{view.id}"})


@router.get(
    "/{encoder_id}",
    operation_id="getEncoder",
    summary="What is known of an uploaded file",
    response_model=FileView,
    responses=problems(404, 422, 503),
)
def get_encoder_by_id(encoder_id: uuid.UUID, service: ServiceDep) -> FileView:
    """Name, size and digest."""
    with service.sessions() as session:
        row = get_encoder(session, encoder_id)
        if row is None:
            raise RequestProblem(404, "unknown_file", f"There is no encoder {encoder_id}.")
        return file_view(row)
