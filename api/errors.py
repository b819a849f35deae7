"""Every error of the service as ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.exceptions import HTTPException

from api.storage.objects import ObjectStoreError

MEDIA_TYPE = "application/problem+json"
_TYPE_PREFIX = "urn:encoder-audit:problem:"


class Fault(BaseModel):
    """One thing that is wrong with the request."""

    pointer: Annotated[str, Field(description="JSON pointer (RFC 6901) to the input at fault")]
    detail: Annotated[str, Field(description="what was found")]
    expected: Annotated[str | None, Field(description="what would be right")] = None
    action: Annotated[str | None, Field(description="what to do about it")] = None


class ProblemBody(BaseModel):
    """RFC 9457 problem details with this service's extensions."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:encoder-audit:problem:truncated_safetensors",
                    "title": "Unprocessable Content",
                    "status": 422,
                    "detail": "The encoder's header announces 1048576 bytes of weights, the file holds 524288.",
                    "instance": "/audits",
                    "code": "truncated_safetensors",
                    "request_id": "0b6f6a3e0f5e4f4f9a6d5f0f3f1f2a11",
                    "errors": [
                        {
                            "pointer": "/encoder",
                            "detail": "The encoder's header announces 1048576 bytes of weights, the file holds 524288.",
                            "expected": "a complete safetensors file",
                            "action": "Upload the file again; the copy you have may be incomplete.",
                        }
                    ],
                }
            ]
        }
    )

    type: Annotated[str, Field(description="stable identifier of this kind of problem")]
    title: str
    status: int
    detail: str
    instance: Annotated[str, Field(description="path of the request")]
    code: Annotated[str, Field(description="stable, for programs")]
    request_id: Annotated[str, Field(description="quote it when asking for help; it is in the service's log")]
    errors: list[Fault] = []


class RequestProblem(Exception):
    """Raised anywhere below a route to answer with a problem. ``status`` is the HTTP status."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = dict(headers or {})


def input_problem(
    code: str, pointer: str, detail: str, *, expected: str | None = None, action: str | None = None, status: int = 422
) -> RequestProblem:
    """One fault of one input."""
    fault = Fault(pointer=pointer, detail=detail, expected=expected, action=action)
    return RequestProblem(status, code, detail, faults=[fault])


def problem_body(path: str, request_id: str, problem: RequestProblem) -> dict[str, Any]:
    """The document for ``problem``."""
    return ProblemBody(
        type=_TYPE_PREFIX + problem.code,
        title=title_of(problem.status),
        status=problem.status,
        detail=problem.detail,
        instance=path,
        code=problem.code,
        request_id=request_id,
        errors=list(problem.faults),
    ).model_dump(exclude_none=True)


def title_of(status: int) -> str:
    """The status in RFC 9110's words, whichever Python (they changed in 3.13) answers."""
    return {413: "Content Too Large", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}.get(
        status, HTTPStatus(status).phrase
    )


def problem_response(request: Request, problem: RequestProblem) -> JSONResponse:
    """The answer for ``problem``."""
    body = problem_body(request.url.path, request.state.request_id, problem)
    return JSONResponse(body, status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def install_error_handlers(app: FastAPI) -> None:
    """Make every error the application can raise a problem document; what is left is the middleware's 500."""

    @app.exception_handler(RequestProblem)
    def answer_problem(request: Request, problem: RequestProblem) -> JSONResponse:
        return problem_response(request, problem)

    @app.exception_handler(HTTPException)
    def answer_http(request: Request, error: HTTPException) -> JSONResponse:
        return problem_response(request, _of_http_exception(request, error))

    @app.exception_handler(RequestValidationError)
    def answer_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [
            Fault(pointer=pointer_to(*_without_place(fault["loc"])), detail=str(fault["msg"]))
            for fault in error.errors()
        ]
        detail = "; ".join(f"{fault.pointer or 'request'}: {fault.detail}" for fault in faults)
        return problem_response(request, RequestProblem(422, "invalid_request", detail, faults=faults))

    @app.exception_handler(ObjectStoreError)
    def answer_storage(request: Request, error: ObjectStoreError) -> JSONResponse:
        return problem_response(request, _unavailable("The object storage does not answer."))

    @app.exception_handler(OperationalError)
    @app.exception_handler(InterfaceError)
    def answer_database(request: Request, error: Exception) -> JSONResponse:
        return problem_response(request, _unavailable("The database does not answer."))


def pointer_to(*parts: str | int) -> str:
    """The JSON pointer through ``parts``."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _without_place(location: Sequence[str | int]) -> Sequence[str | int]:
    """FastAPI begins locations with where it looked (``query``, ``path``, ``header``)."""
    return location[1:]


def _unavailable(detail: str) -> RequestProblem:
    return RequestProblem(
        503, "service_unavailable", f"{detail} Try again in a few seconds.", headers={"Retry-After": "5"}
    )


def _of_http_exception(request: Request, error: HTTPException) -> RequestProblem:
    codes = {404: "not_found", 405: "method_not_allowed"}
    details = {
        404: "There is nothing at this address. The service's addresses are listed in /docs.",
        405: f"{request.method} is not possible here.",
    }
    return RequestProblem(
        error.status_code,
        codes.get(error.status_code, "http_error"),
        details.get(error.status_code, str(error.detail)),
        headers=error.headers,
    )
