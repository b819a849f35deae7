"""What holds for every address: problem documents, headers, health, and the published description."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from kombu.exceptions import OperationalError as BrokerDown
from sqlalchemy.exc import OperationalError

import api
from api.app import create_app
from api.errors import install_error_handlers
from api.middleware import RequestContext
from api.openapi import FILE, openapi_text
from api.storage.objects import ObjectStoreError
from tests.contract.conftest import Running

AssertProblem = Callable[[httpx.Response, int, str], dict[str, object]]
CONTRACT = Path(api.__file__).parent / "contract"


def test_the_published_description_is_current() -> None:
    assert (CONTRACT / FILE).read_text() == openapi_text()


def test_every_operation_is_named_once_and_declares_its_errors() -> None:
    document = create_app().openapi()
    names = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            names.append(operation["operationId"])
            assert operation["summary"], (method, path)
            errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
            assert "500" in errors, (method, path)
            for status, answer in errors.items():
                assert set(answer["content"]) == {"application/problem+json"}, (method, path, status)
    assert len(names) == len(set(names))
    text = json.dumps(document)
    for name in document["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in text


def test_addresses_and_methods_that_are_not(service: Running, assert_problem: AssertProblem) -> None:
    assert_problem(service.http.get("/nothing"), 404, "not_found")
    wrong = service.http.put("/audits")
    assert_problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"]
    assert_problem(service.http.get("/audits/not-an-id"), 422, "invalid_request")


def test_every_answer_has_an_id_and_security_headers(service: Running) -> None:
    for path in ("/livez", "/methods", "/audits", "/nothing"):
        answer = service.http.get(path)
        assert answer.headers["x-request-id"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers or "uvicorn" in answer.headers["server"]
    assert service.http.get("/livez", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    forged = service.http.get("/livez", headers={"x-request-id": 'a"b{}'}).headers["x-request-id"]
    assert forged != 'a"b{}'


def test_the_catalogue_is_served_as_it_was_generated(service: Running) -> None:
    assert service.http.get("/methods").json() == json.loads((CONTRACT / "methods.json").read_text())


def test_health(service: Running) -> None:
    assert service.http.get("/livez").json() == {"status": "ok"}
    ready = service.http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["checks"] == {"database": "ok", "broker": "ok", "storage": "ok"}


def test_the_documentation_page_needs_nothing_from_elsewhere(service: Running) -> None:
    page = service.http.get("/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    assert service.http.get("/openapi.json").json() == json.loads((CONTRACT / FILE).read_text())


def breaking_app(error: Exception) -> TestClient:
    """An application whose one route raises ``error``."""
    app = FastAPI()
    app.add_middleware(RequestContext)
    install_error_handlers(app)

    @app.get("/broken")
    def broken() -> None:
        raise error

    return TestClient(app)


def test_an_unforeseen_error_tells_only_its_incident_id() -> None:
    answer = breaking_app(RuntimeError("password=hunter2 in /srv/secret")).get("/broken")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] in answer.json()["detail"]
    assert "hunter2" not in answer.text
    assert "secret" not in answer.text


@pytest.mark.parametrize(
    "error",
    [ObjectStoreError("s3://user:hunter2@host"), OperationalError("SELECT hunter2", {}, RuntimeError("hunter2"))],
    ids=["object storage", "database"],
)
def test_an_engine_that_is_down_is_a_503_without_its_address(error: Exception) -> None:
    answer = breaking_app(error).get("/broken")
    assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
    assert answer.headers["retry-after"]
    assert "hunter2" not in answer.text


def test_a_broker_that_is_down_costs_no_audit(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BrokerDown("connection refused")

    monkeypatch.setattr("api.queue.publish", refuse)
    answer = service.http.post("/audits", files=service.files())
    assert answer.status_code == 202
    assert service.http.get(answer.headers["location"]).json()["state"] == "queued"
