"""``/methods``: what can be asked for, as the catalogue was generated from ``core``."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from api.dependencies import ServiceDep
from api.problems import problems

router = APIRouter(prefix="/methods", tags=["methods"])


@router.get(
    "",
    operation_id="listMethods",
    summary="Kinds of audit, their methods and the JSON Schema of their parameters",
    response_class=Response,
    responses={
        200: {"description": "The catalogue", "content": {"application/json": {"schema": {"type": "object"}}}},
        **problems(),
    },
)
def get_methods(service: ServiceDep) -> Response:
    """The schema of a kind's `parameters` is at `kinds[].parameters`."""
    return JSONResponse(service.catalog.document, headers={"Cache-Control": "private, max-age=60"})
