"""``/datasets`` over HTTP: upload images in one file once, audit it many times."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from api.audits.schemas import FileView, file_view
from api.dependencies import ServiceDep
from api.errors import RequestProblem
from api.image_preflight import ImageForm
from api.problems import problems
from api.receive import receive_upload
from api.request_bodies import upload_body
from api.storage.datasets import get_dataset

router = APIRouter(prefix="/datasets", tags=["datasets"])

_RAW_TYPES = (*(form.value for form in ImageForm), "application/octet-stream")


@router.post(
    "",
    operation_id="uploadDataset",
    summary="Upload images: a zip, tar, table (Parquet, Arrow) or array (npz, npy, idx)",
    status_code=201,
    response_model=FileView,
    responses=problems(400, 413, 415, 422, 503, 507),
    openapi_extra=upload_body(_RAW_TYPES),
)
async def upload_dataset(
    request: Request,
    service: ServiceDep,
    filename: Annotated[str, Query(max_length=200, description="name to show, when the file is the raw body")] = "",
) -> Response:
    """As the part `file` of a form, or as the raw body. The id of the answer names it in `POST /audits`. What the file
    is, its content says; the Content-Type of a raw body only says that it is no form."""
    view = await receive_upload(request, service, "images", _RAW_TYPES, filename)
    return JSONResponse(view.model_dump(mode="json"), status_code=201, headers={"Location": f"/datasets/{view.id}"})


@router.get(
    "/{dataset_id}",
    operation_id="getDataset",
    summary="What is known of an uploaded file",
    response_model=FileView,
    responses=problems(404, 422, 503),
)
def get_dataset_by_id(dataset_id: uuid.UUID, service: ServiceDep) -> FileView:
    """Name, size and digest."""
    with service.sessions() as session:
        row = get_dataset(session, dataset_id)
        if row is None:
            raise RequestProblem(404, "unknown_file", f"There is no dataset {dataset_id}.")
        return file_view(row)
