"""Around every request: its id, one log line, security headers, and a 500 that tells nothing but an incident's id."""

from __future__ import annotations

import json
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import MEDIA_TYPE, RequestProblem, problem_body

_log = structlog.get_logger("api.request")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
_QUIET = {"/livez", "/readyz"}  # probes, several a minute
_CLIENT_CLOSED = 499  # for the log only: nobody is left to receive an answer


class RequestContext:
    """Outermost ASGI layer. Sets ``request.state.request_id``; nothing an inner layer raises gets past it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = status or _CLIENT_CLOSED
        except Exception:
            _log.exception("unhandled error", path=scope["path"], method=scope["method"])
            if status:
                raise  # the answer has begun; cutting the connection is all that is left
            await _send_incident(scope["path"], request_id, send_with_headers)
        finally:
            if scope["path"] not in _QUIET:
                _log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    milliseconds=round((time.perf_counter() - started) * 1000, 1),
                )


async def _send_incident(path: str, request_id: str, send: Send) -> None:
    problem = RequestProblem(
        500, "internal_error", f"Something went wrong on our side; the service's log has it as incident {request_id}."
    )
    body = json.dumps(problem_body(path, request_id, problem), separators=(",", ":")).encode()
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
