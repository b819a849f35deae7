"""Following an audit and reading what it left behind."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from api.storage.leases import note_reading
from tests.contract.conftest import Running, safetensors

AssertProblem = Callable[[httpx.Response, int, str], dict[str, object]]
PURIFIED = safetensors(100_000, fill=b"\x2a")
ARTIFACTS = {
    "report.json": ("application/json", b'{"verdict": "backdoored"}'),
    "report.html": ("text/html; charset=utf-8", b"<!doctype html><title>Report</title>"),
    "trigger.png": ("image/png", b"\x89PNG"),
    "encoder": ("application/octet-stream", PURIFIED),
}


@pytest.fixture
def finished(service: Running, tmp_path: Path) -> str:
    """Path of an audit that has succeeded and left :data:`ARTIFACTS`."""
    audit_id = service.submit("purify")
    service.succeed(audit_id, ARTIFACTS, tmp_path)
    return f"/audits/{audit_id}"


def test_an_audit_is_followed_from_queued_to_its_verdict(service: Running, tmp_path: Path) -> None:
    audit_id = service.submit("purify")
    queued = service.http.get(f"/audits/{audit_id}")
    assert queued.json()["state"] == "queued"
    assert queued.headers["retry-after"]
    assert set(queued.json()["links"]) == {"self", "cancel"}
    service.succeed(audit_id, ARTIFACTS, tmp_path)
    done = service.http.get(f"/audits/{audit_id}")
    body = done.json()
    assert (body["state"], body["verdict"], body["score"], body["threshold"]) == ("succeeded", "backdoored", 0.9, 0.5)
    assert "retry-after" not in done.headers
    for name, link in body["links"].items():
        assert service.http.get(link).status_code == 200, name
    assert set(body["links"]) == {"self", "report", "report_html", "encoder", "artifacts"}


def test_how_the_files_were_read_is_said_while_the_audit_runs(service: Running) -> None:
    audit_id = service.submit()
    said = {"audited": "a ResNet-18.", "assumptions": ["Nobody said so."], "image_notes": ["Two of 100 are one."]}
    attempt = service.start(audit_id)
    assert "image_notes" not in service.http.get(f"/audits/{audit_id}").json()
    with service.sessions.begin() as session:
        assert note_reading(session, audit_id, attempt, said)
    body = service.http.get(f"/audits/{audit_id}").json()
    assert {key: body[key] for key in said} == said


def test_an_unchanged_audit_is_not_sent_twice(service: Running) -> None:
    audit_id = service.submit()
    first = service.http.get(f"/audits/{audit_id}")
    again = service.http.get(f"/audits/{audit_id}", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["retry-after"]
    service.start(audit_id)
    changed = service.http.get(f"/audits/{audit_id}", headers={"if-none-match": first.headers["etag"]})
    assert changed.status_code == 200
    assert changed.json()["state"] == "running"


def test_a_failed_audit_says_why_and_has_no_results(service: Running, assert_problem: AssertProblem) -> None:
    audit_id = service.submit("purify")
    service.fail(audit_id)
    body = service.http.get(f"/audits/{audit_id}").json()
    assert body["state"] == "failed"
    assert body["failure"]["code"] == "nan_weights"
    assert body["failure"]["action"] == "Fix it."
    assert "verdict" not in body
    assert set(body["links"]) == {"self"}
    problem = assert_problem(service.http.get(f"/audits/{audit_id}/encoder"), 404, "audit_failed")
    assert "nan_weights" in str(problem["detail"])


@pytest.mark.parametrize("place", ["report", "encoder", "artifacts/report.json"])
def test_results_before_the_end(place: str, service: Running, assert_problem: AssertProblem) -> None:
    audit_id = service.submit("purify")
    answer = service.http.get(f"/audits/{audit_id}/{place}")
    assert_problem(answer, 409, "audit_not_finished")
    assert answer.headers["retry-after"]
    assert service.http.get(f"/audits/{audit_id}/artifacts").json() == {"items": []}


def test_a_kind_that_makes_no_encoder_says_so_at_once(service: Running, assert_problem: AssertProblem) -> None:
    audit_id = service.submit("detect")
    problem = assert_problem(service.http.get(f"/audits/{audit_id}/encoder"), 404, "kind_makes_no_encoder")
    assert "purify" in str(problem["detail"])


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html", "text/html; charset=utf-8"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("text/html;q=0.5, application/json", "application/json"),
    ],
)
def test_the_report_by_accept(accept: str | None, media_type: str, service: Running, finished: str) -> None:
    answer = service.http.get(f"{finished}/report", headers={"accept": accept} if accept else {})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == media_type
    assert answer.headers["vary"].lower() == "accept"
    name = "report.html" if "html" in media_type else "report.json"
    assert answer.content == ARTIFACTS[name][1]
    assert ("sandbox" in answer.headers["content-security-policy"]) == (name == "report.html")


def test_a_report_nobody_makes(service: Running, finished: str, assert_problem: AssertProblem) -> None:
    assert_problem(service.http.get(f"{finished}/report", headers={"accept": "image/png"}), 406, "not_acceptable")


def test_artifacts_are_listed_with_their_digests(service: Running, finished: str) -> None:
    items = service.http.get(f"{finished}/artifacts").json()["items"]
    assert {item["name"] for item in items} == set(ARTIFACTS)
    for item in items:
        content = service.http.get(item["href"]).content
        assert hashlib.sha256(content).hexdigest() == item["sha256"]
        assert len(content) == item["size"]


def test_the_purified_encoder_is_downloaded_whole(service: Running, finished: str) -> None:
    answer = service.http.get(f"{finished}/encoder")
    assert answer.status_code == 200
    assert answer.content == PURIFIED
    assert answer.headers["content-length"] == str(len(PURIFIED))
    digest = base64.b64encode(hashlib.sha256(PURIFIED).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert 'filename="encoder.purified.safetensors"' in answer.headers["content-disposition"]
    head = service.http.head(f"{finished}/encoder")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(PURIFIED))
    held = service.http.get(f"{finished}/encoder", headers={"if-none-match": answer.headers["etag"]})
    assert (held.status_code, held.content) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=1000-", 1000, len(PURIFIED)),
        ("bytes=-10", len(PURIFIED) - 10, len(PURIFIED)),
        ("bytes=0-99999999", 0, len(PURIFIED)),
        (f"bytes=-{10**12}", 0, len(PURIFIED)),
    ],
)
def test_a_part_of_the_encoder(asked: str, begin: int, end: int, service: Running, finished: str) -> None:
    answer = service.http.get(f"{finished}/encoder", headers={"range": asked})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{len(PURIFIED)}"
    assert answer.content == PURIFIED[begin:end]


def test_ranges_that_cannot_be_served(service: Running, finished: str, assert_problem: AssertProblem) -> None:
    for asked in (f"bytes={len(PURIFIED)}-", "bytes=-0"):
        answer = service.http.get(f"{finished}/encoder", headers={"range": asked})
        assert_problem(answer, 416, "range_not_satisfiable")
        assert answer.headers["content-range"] == f"bytes */{len(PURIFIED)}"
    for ignored in ("bytes=5-2", "bytes=0-1,4-5", "lines=1-2", "bytes=-"):
        answer = service.http.get(f"{finished}/encoder", headers={"range": ignored})
        assert (answer.status_code, len(answer.content)) == (200, len(PURIFIED)), ignored


def test_a_part_of_an_older_version_is_not_mixed_in(service: Running, finished: str) -> None:
    stale = service.http.get(f"{finished}/encoder", headers={"range": "bytes=0-1", "if-range": '"other"'})
    assert (stale.status_code, stale.content) == (200, PURIFIED)


def test_artifact_names_are_never_paths(service: Running, finished: str, assert_problem: AssertProblem) -> None:
    assert_problem(service.http.get(f"{finished}/artifacts/nothing"), 404, "unknown_artifact")
    for name in ("..%2f..%2fsecret", "%00", "a%20b"):
        answer = service.http.get(f"{finished}/artifacts/{name}")
        assert answer.status_code in (404, 422)
        assert answer.headers["content-type"] == "application/problem+json"


class TestCancel:
    def test_a_queued_audit_is_cancelled_at_once(self, service: Running, assert_problem: AssertProblem) -> None:
        audit_id = service.submit()
        for _ in range(2):
            answer = service.http.post(f"/audits/{audit_id}/cancel")
            assert answer.status_code == 202
            assert answer.json()["state"] == "cancelled"
        assert_problem(service.http.get(f"/audits/{audit_id}/report"), 404, "audit_cancelled")

    def test_a_running_audit_is_asked_to_stop(self, service: Running) -> None:
        audit_id = service.submit()
        service.start(audit_id)
        body = service.http.post(f"/audits/{audit_id}/cancel").json()
        assert (body["state"], body["cancel_requested"]) == ("running", True)

    def test_a_finished_audit_is_not_cancelled(
        self, service: Running, finished: str, assert_problem: AssertProblem
    ) -> None:
        assert_problem(service.http.post(f"{finished}/cancel"), 409, "audit_finished")
        assert service.http.get(finished).json()["state"] == "succeeded"

    def test_an_audit_that_does_not_exist(self, service: Running, assert_problem: AssertProblem) -> None:
        for place in ("", "/report", "/artifacts", "/encoder", "/artifacts/report.json"):
            assert_problem(service.http.get(f"/audits/{uuid.uuid4()}{place}"), 404, "unknown_audit")
        assert_problem(service.http.post(f"/audits/{uuid.uuid4()}/cancel"), 404, "unknown_audit")


class TestList:
    def test_pages_hold_every_audit_once_newest_first(self, service: Running) -> None:
        submitted = [str(service.submit("detect")) for _ in range(5)]
        seen: list[str] = []
        cursor: str | None = None
        while True:
            page = service.http.get("/audits", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
            seen += [item["id"] for item in page["items"]]
            cursor = page.get("next")
            if cursor is None:
                break
        assert seen == submitted[::-1]

    def test_filters(self, service: Running, tmp_path: Path) -> None:
        looked, purified, failed = service.submit("detect"), service.submit("purify"), service.submit("detect")
        service.succeed(purified, ARTIFACTS, tmp_path)
        service.fail(failed)

        def found(**query: str) -> set[str]:
            return {item["id"] for item in service.http.get("/audits", params=query).json()["items"]}

        assert found(state="queued") == {str(looked)}
        assert found(kind="detect") == {str(looked), str(failed)}
        assert found(verdict="backdoored") == {str(purified)}
        assert found(state="failed", kind="purify") == set()

    @pytest.mark.parametrize("query", ["cursor=x", "cursor=%00", "limit=0", "limit=201", "state=odd", "kind=%00"])
    def test_bad_queries(self, query: str, service: Running, assert_problem: AssertProblem) -> None:
        answer = service.http.get(f"/audits?{query}")
        assert_problem(answer, 422, "invalid_cursor" if "cursor" in query else "invalid_request")
