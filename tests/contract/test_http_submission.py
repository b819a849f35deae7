"""``POST /audits``, ``/encoders`` and ``/datasets``: what is taken, and that what is refused leaves nothing behind."""

from __future__ import annotations

import io
import json
import socket
import uuid
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import select

from api.storage.tables import Audit, Dataset
from core.encoders.card import SAMPLE_CARD
from tests.contract.conftest import LARGEST_ENCODER, Running, image_tar, image_zip, safetensors

AssertProblem = Callable[[httpx.Response, int, str], dict[str, object]]
NOTHING = {"audits": 0, "encoders": 0, "datasets": 0, "idempotency_keys": 0, "objects": 0, "quarantine": 0}


def torch_zip(*, cut: int = 0) -> bytes:
    """A zip that could be a PyTorch checkpoint; without its last ``cut`` bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02.")
    content = buffer.getvalue()
    return content[: len(content) - cut]


def with_header(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def test_a_form_with_files_makes_a_queued_audit(service: Running) -> None:
    answer = service.http.post(
        "/audits",
        files=service.files(),
        data={"kind": "purify", "seed": "7", "parameters": '{"detection": {"method": "decree"}}'},
    )
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/audits/{body['id']}" == body["links"]["self"]
    assert int(answer.headers["retry-after"]) >= 1
    assert (body["kind"], body["state"], body["seed"]) == ("purify", "queued", 7)
    assert body["parameters"] == {"detection": {"method": "decree"}}
    assert body["encoder"]["filename"] == "encoder.safetensors"
    assert body["encoder"]["size"] == len(safetensors())
    assert service.http.get(answer.headers["location"]).json() == body
    assert service.kept() == {
        "audits": 1,
        "encoders": 1,
        "datasets": 1,
        "idempotency_keys": 0,
        "objects": 2,
        "quarantine": 0,
    }


@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        ({"copy": "teacher"}, {"copy": "teacher"}),
        ({"card": '{"copy": "student"}'}, {"copy": "student"}),
        ({"card": '{"pooling": "cls"}'}, {"pooling": "cls"}),
        ({"card": json.dumps(dict(SAMPLE_CARD)), "copy": "teacher"}, {**SAMPLE_CARD, "copy": "teacher"}),
    ],
)
def test_the_copy_to_audit_travels_in_the_card(
    fields: dict[str, str], stored: dict[str, object], service: Running
) -> None:
    answer = service.http.post("/audits", files=service.files(), data={"kind": "detect", **fields})
    assert answer.status_code == 202, answer.text
    with service.sessions() as session:
        assert session.scalars(select(Audit)).one().card == stored


def test_stored_bytes_are_the_bytes_sent(service: Running) -> None:
    content = safetensors(500_000, fill=b"\x17")
    answer = service.http.post("/encoders", files={"file": ("e.safetensors", content)})
    assert answer.status_code == 201
    assert b"".join(service.objects.read(f"encoders/{answer.json()['id']}")) == content


def test_json_names_files_uploaded_before(service: Running) -> None:
    encoder = service.http.post("/encoders?filename=w.safetensors", content=safetensors(), headers=OCTETS)
    images = service.http.post("/datasets", files={"file": ("i.zip", image_zip())})
    assert service.http.get(encoder.headers["location"]).json() == encoder.json()
    assert service.http.get(images.headers["location"]).json() == images.json()
    named = {"encoder": {"id": encoder.json()["id"]}, "images": {"id": images.json()["id"]}}
    for _ in range(2):
        answer = service.http.post("/audits", json={"kind": "detect", **named})
        assert answer.status_code == 202
        assert answer.json()["encoder"] == encoder.json()
        assert answer.json()["images"] == images.json()
    assert service.kept()["objects"] == 2


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (image_zip(), "application/zip"),
        (image_tar(), "application/x-tar"),
        (image_tar("w:gz"), "application/gzip"),
        (b"PAR1" + bytes(100) + b"\x20\0\0\0PAR1", "application/vnd.apache.parquet"),
    ],
    ids=["zip", "tar", "tar.gz", "parquet"],
)
def test_images_are_taken_in_every_form_whatever_their_name(content: bytes, media_type: str, service: Running) -> None:
    sent = service.http.post("/datasets", files={"file": ("photographs", content, "text/plain")})
    assert sent.status_code == 201
    raw = service.http.post("/datasets?filename=x", content=content, headers={"content-type": media_type})
    assert raw.status_code == 201
    with service.sessions() as session:
        assert set(session.scalars(select(Dataset.media_type))) == {media_type}
    assert b"".join(service.objects.read(f"datasets/{raw.json()['id']}")) == content


OCTETS = {"content-type": "application/octet-stream"}

BAD_FILES = {
    "empty encoder": ({"encoder": b""}, "empty_file", "/encoder"),
    "empty images": ({"images": b""}, "empty_file", "/images"),
    "truncated safetensors": ({"encoder": safetensors()[:-1]}, "truncated_safetensors", "/encoder"),
    "safetensors cut in its header": ({"encoder": safetensors()[:20]}, "truncated_safetensors", "/encoder"),
    "safetensors with a tail": ({"encoder": safetensors() + b"tail"}, "malformed_safetensors", "/encoder"),
    "header is not JSON": ({"encoder": with_header(b"{nonsense")}, "malformed_safetensors", "/encoder"),
    "header without tensors": ({"encoder": with_header(b'{"__metadata__":{}}')}, "malformed_safetensors", "/encoder"),
    "tensor without a place": ({"encoder": with_header(b'{"w":{"shape":[1]}}')}, "malformed_safetensors", "/encoder"),
    "header too long": ({"encoder": (1 << 40).to_bytes(8, "little") + b"{}"}, "malformed_safetensors", "/encoder"),
    "text as an encoder": ({"encoder": b"hello world, I am text"}, "not_an_encoder", "/encoder"),
    "one byte as an encoder": ({"encoder": b"\x80"}, "not_an_encoder", "/encoder"),
    "cut checkpoint": ({"encoder": torch_zip(cut=30)}, "truncated_checkpoint", "/encoder"),
    "images are weights": ({"images": safetensors()}, "not_an_archive", "/images"),
    "tar without its end": ({"images": image_tar()[:1000]}, "truncated_archive", "/images"),
    "zip without its end": ({"images": image_zip()[:-30]}, "truncated_zip", "/images"),
    "zip without members": ({"images": b"PK\x05\x06" + bytes(18)}, "no_images", "/images"),
}


@pytest.mark.parametrize("case", BAD_FILES, ids=str)
def test_a_bad_file_is_refused_and_nothing_is_kept(case: str, service: Running, assert_problem: AssertProblem) -> None:
    changed, code, pointer = BAD_FILES[case]
    files = {**service.files(), **{name: (name, content) for name, content in changed.items()}}
    body = assert_problem(service.http.post("/audits", files=files), 422, code)
    errors = body["errors"]
    assert isinstance(errors, list)
    assert errors[0]["pointer"] == pointer
    assert errors[0]["expected"]
    assert errors[0]["action"]
    assert service.kept() == NOTHING


@pytest.mark.parametrize("content", [torch_zip(), b"\x80\x02}q\x00."], ids=["zip checkpoint", "old checkpoint"])
def test_checkpoints_are_left_to_the_worker(content: bytes, service: Running) -> None:
    answer = service.http.post("/encoders", files={"file": ("model.pth", content)})
    assert answer.status_code == 201


BAD_FIELDS = {
    "unknown kind": ({"kind": "bless"}, "unknown_kind", "/kind"),
    "parameters are no JSON": ({"parameters": "{"}, "malformed_json", "/parameters"),
    "parameters are a list": ({"parameters": "[]"}, "invalid_request", "/parameters"),
    "unknown parameter": ({"parameters": '{"speed": 1}'}, "invalid_request", "/parameters"),
    "parameter of a wrong type": ({"parameters": '{"seed": "x"}'}, "invalid_request", "/parameters/seed"),
    "parameter out of range": ({"parameters": '{"seed": -1}'}, "invalid_request", "/parameters/seed"),
    "nested parameter": (
        {"parameters": '{"detection": {"method": 3}}'},
        "invalid_request",
        "/parameters/detection/method",
    ),
    "NaN": ({"parameters": '{"seed": NaN}'}, "malformed_json", "/parameters"),
    "NUL in text": ({"parameters": '{"preset": "\\u0000"}'}, "malformed_json", "/parameters"),
    "half a character": ({"card": '{"a": "\\ud800"}'}, "malformed_json", "/card"),
    "infinite number": ({"card": '{"a": 1e999}'}, "malformed_json", "/card"),
    "same key twice": ({"card": '{"a": 1, "a": 2}'}, "malformed_json", "/card"),
    "very deep": ({"card": "[" * 1500 + "]" * 1500}, "malformed_json", "/card"),
    "card is a number": ({"card": "3"}, "invalid_request", "/card"),
    "unknown preset": ({"parameters": '{"preset": "fast"}'}, "invalid_request", "/parameters/preset"),
    "preset of another method": (
        {"parameters": '{"preset": "quick", "detection": {"method": "decree"}}'},
        "invalid_request",
        "/parameters/preset",
    ),
    "card without architecture": ({"card": '{"format": "encoder-card/1"}'}, "invalid_request", "/card/architecture"),
    "card with pixels up to 255": (
        {"card": json.dumps({**SAMPLE_CARD, "mean": [124, 116, 104]})},
        "invalid_request",
        "/card/mean/0",
    ),
    "seed is no number": ({"seed": "x"}, "invalid_request", "/seed"),
    "seed is negative": ({"seed": "-1"}, "invalid_request", "/seed"),
    "seed is too large": ({"seed": str(2**53)}, "invalid_request", "/seed"),
}


@pytest.mark.parametrize("case", BAD_FIELDS, ids=str)
def test_a_bad_field_is_refused_by_its_path(case: str, service: Running, assert_problem: AssertProblem) -> None:
    fields, code, pointer = BAD_FIELDS[case]
    body = assert_problem(service.http.post("/audits", files=service.files(), data=fields), 422, code)
    errors = body["errors"]
    assert isinstance(errors, list)
    assert errors[0]["pointer"] == pointer
    assert service.kept() == NOTHING


def test_a_missing_input_is_named(service: Running, assert_problem: AssertProblem) -> None:
    for missing in ("encoder", "images"):
        files = {name: file for name, file in service.files().items() if name != missing}
        body = assert_problem(service.http.post("/audits", files=files), 422, "invalid_request")
        assert [error["pointer"] for error in body["errors"]] == [f"/{missing}"]  # type: ignore[attr-defined]
    assert service.kept() == NOTHING


@pytest.mark.parametrize("with_encoder", [False, True])
def test_a_set_of_images_is_judged_with_or_without_an_encoder(with_encoder: bool, service: Running) -> None:
    files = {name: file for name, file in service.files().items() if with_encoder or name == "images"}
    parameters = '{"preset": "quick", "archive": true, "threat_model": {"method": "moco-v2", "epochs": 5}}'
    answer = service.http.post("/audits", files=files, data={"kind": "cleanse", "parameters": parameters})
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert (body["kind"], body["state"], "encoder" in body) == ("cleanse", "queued", with_encoder)
    assert service.kept()["encoders"] == int(with_encoder)


def test_an_uploaded_set_is_judged_without_an_encoder(service: Running, assert_problem: AssertProblem) -> None:
    images = service.http.post("/datasets", files={"file": ("i.zip", image_zip())}).json()["id"]
    answer = service.http.post("/audits", json={"kind": "cleanse", "images": {"id": images}})
    assert answer.status_code == 202
    card = {"format": "encoder-card/1"}
    refused = service.http.post("/audits", json={"kind": "cleanse", "images": {"id": images}, "card": card})
    errors = assert_problem(refused, 422, "invalid_request")["errors"]
    assert isinstance(errors, list) and errors[0]["pointer"] == "/card"
    unnamed = service.http.post("/audits", json={"kind": "cleanse"})
    errors = assert_problem(unnamed, 422, "invalid_request")["errors"]
    assert isinstance(errors, list) and [error["pointer"] for error in errors] == ["/images"]


def test_unknown_and_repeated_parts_are_refused(service: Running, assert_problem: AssertProblem) -> None:
    stranger = service.http.post("/audits", files={**service.files(), "virus": ("v", b"v")})
    assert_problem(stranger, 422, "unknown_part")
    twice = [("encoder", ("e", safetensors())), ("encoder", ("e", safetensors()))]
    assert_problem(service.http.post("/audits", files=twice), 422, "repeated_part")
    assert service.kept() == NOTHING


@pytest.mark.parametrize("path", ["/audits", "/encoders", "/datasets"])
def test_other_content_types_are_refused(path: str, service: Running, assert_problem: AssertProblem) -> None:
    for headers in ({"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}, {}):
        assert_problem(service.http.post(path, content=safetensors(), headers=headers), 415, "unsupported_media_type")
    assert service.kept() == NOTHING


def test_malformed_bodies_are_refused(service: Running, assert_problem: AssertProblem) -> None:
    form = {"content-type": "multipart/form-data; boundary=x"}
    cut = b'--x\r\nContent-Disposition: form-data; name="encoder"; filename="e"\r\n\r\nabc'
    assert_problem(service.http.post("/audits", content=cut, headers=form), 400, "malformed_multipart")
    assert_problem(service.http.post("/audits", content=b"nonsense", headers=form), 400, "malformed_multipart")
    bare = {"content-type": "multipart/form-data"}
    assert_problem(service.http.post("/audits", content=cut, headers=bare), 400, "malformed_multipart")
    text = {"content-type": "application/json"}
    assert_problem(service.http.post("/audits", content=b"{", headers=text), 400, "malformed_json")
    assert_problem(service.http.post("/audits", content=b"\xff", headers=text), 400, "malformed_json")
    assert_problem(service.http.post("/audits", json=[]), 422, "invalid_request")
    assert_problem(service.http.post("/audits", json={"surprise": 1}), 422, "invalid_request")
    assert service.kept() == NOTHING


def test_ids_that_do_not_exist_are_named(service: Running, assert_problem: AssertProblem) -> None:
    request = {"encoder": {"id": str(uuid.uuid4())}, "images": {"id": str(uuid.uuid4())}}
    body = assert_problem(service.http.post("/audits", json=request), 422, "unknown_file")
    assert body["errors"][0]["pointer"] == "/encoder/id"  # type: ignore[index]
    assert_problem(service.http.get(f"/encoders/{uuid.uuid4()}"), 404, "unknown_file")
    assert_problem(service.http.get(f"/datasets/{uuid.uuid4()}"), 404, "unknown_file")


def test_too_large_is_refused_announced_or_not(service: Running, assert_problem: AssertProblem) -> None:
    content = safetensors(LARGEST_ENCODER)
    assert_problem(service.http.post("/encoders", content=content, headers=OCTETS), 413, "too_large")
    field = {"parameters": json.dumps({"preset": "x" * 5000})}
    assert_problem(service.http.post("/audits", files=service.files(), data=field), 413, "too_large")

    def unannounced() -> Iterator[bytes]:
        for start in range(0, LARGEST_ENCODER + 2, 65536):
            yield content[start : start + 65536]

    assert_problem(service.http.post("/encoders", content=unannounced(), headers=OCTETS), 413, "too_large")
    assert service.kept() == NOTHING


def test_a_client_that_goes_away_leaves_nothing(service: Running) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    head = (
        f"POST /encoders HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Length: {LARGEST_ENCODER}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + safetensors(600_000))
        wait_until(lambda: service.kept()["quarantine"] == 1)
    wait_until(lambda: service.kept()["quarantine"] == 0)
    assert service.kept() == NOTHING


def wait_until(condition: Callable[[], bool]) -> None:
    """Return when ``condition`` holds; the test's own time limit ends a wait in vain."""
    while not condition():
        pass


def test_file_names_are_shown_and_never_used(service: Running) -> None:
    evil = {"../../etc/passwd": "passwd", "a\\b\\c.pt": "c.pt", "tab\there": "tabhere", "": "file", "\u202egnp": "gnp"}
    for sent, shown in evil.items():
        query = httpx.QueryParams({"filename": sent})
        answer = service.http.post(f"/encoders?{query}", content=safetensors(), headers=OCTETS)
        assert answer.json()["filename"] == shown


class TestIdempotency:
    def test_the_same_request_is_answered_once_and_replayed(self, service: Running) -> None:
        answers = [
            service.http.post("/audits", files=service.files(), headers={"idempotency-key": key})
            for key in ('"key-1"', "key-1", "key-1")
        ]
        assert [answer.status_code for answer in answers] == [202, 202, 202]
        assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true", "true"]
        assert answers[1].json() == answers[0].json() == answers[2].json()
        assert answers[1].headers["location"] == answers[0].headers["location"]
        assert service.kept() == {
            **NOTHING,
            "audits": 1,
            "encoders": 1,
            "datasets": 1,
            "idempotency_keys": 1,
            "objects": 2,
        }

    @pytest.mark.parametrize(
        "change",
        [{"seed": "1"}, {"kind": "purify"}, {"parameters": '{"seed": 3}'}, {"card": json.dumps(dict(SAMPLE_CARD))}],
        ids=["seed", "kind", "parameters", "card"],
    )
    def test_another_request_under_the_same_key_is_refused(
        self, change: dict[str, str], service: Running, assert_problem: AssertProblem
    ) -> None:
        key = {"idempotency-key": "key-2"}
        assert service.http.post("/audits", files=service.files(), headers=key).status_code == 202
        other = service.http.post("/audits", files=service.files(), data=change, headers=key)
        assert_problem(other, 422, "idempotency_key_reused")
        files = {**service.files(), "encoder": ("e", safetensors(7))}
        assert_problem(service.http.post("/audits", files=files, headers=key), 422, "idempotency_key_reused")
        assert service.kept()["audits"] == 1
        assert service.kept()["objects"] == 2

    def test_a_refused_request_does_not_use_the_key_up(self, service: Running) -> None:
        key = {"idempotency-key": "key-3"}
        bad = {**service.files(), "encoder": ("e", b"")}
        assert service.http.post("/audits", files=bad, headers=key).status_code == 422
        assert service.http.post("/audits", files=service.files(), headers=key).status_code == 202

    def test_many_at_once_make_one_audit(self, service: Running) -> None:
        def send(_: int) -> httpx.Response:
            return httpx.post(
                f"{service.url}/audits", files=service.files(), headers={"idempotency-key": "key-4"}, timeout=60
            )

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(send, range(8)))
        assert {answer.status_code for answer in answers} <= {202, 409}
        assert len({answer.json()["id"] for answer in answers if answer.status_code == 202}) == 1
        assert service.kept() == {
            **NOTHING,
            "audits": 1,
            "encoders": 1,
            "datasets": 1,
            "idempotency_keys": 1,
            "objects": 2,
        }

    def test_a_key_must_be_printable(self, service: Running, assert_problem: AssertProblem) -> None:
        for key in ("with space", "x" * 300, '""'):
            answer = service.http.post("/audits", files=service.files(), headers={"idempotency-key": key})
            assert_problem(answer, 400, "invalid_idempotency_key")
        assert service.kept() == NOTHING
