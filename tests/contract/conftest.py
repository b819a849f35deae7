"""The HTTP service on real engines, served by a real server, and small files to send it."""

from __future__ import annotations

import json
import struct
import tarfile
import threading
import uuid
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import httpx
import pytest
import uvicorn
from sqlalchemy import Engine, create_engine, func, select, text

from api.app import create_app
from api.embedded.home import free_ports
from api.embedded.stack import Stack
from api.settings import ApiSettings
from api.storage.artifacts import add_artifacts
from api.storage.files import StoredFile
from api.storage.leases import Conclusion, claim, fail, finish
from api.storage.migrate import upgrade
from api.storage.objects import ObjectStore
from api.storage.session import Sessions, create_sessions
from api.storage.settings import StorageSettings
from api.storage.tables import Audit, Base, Dataset, Encoder, IdempotencyKey

LARGEST_ENCODER = 4 * 1024 * 1024


def safetensors(values: int = 1000, *, fill: bytes = b"\0") -> bytes:
    """A complete safetensors file with one float32 tensor of ``values`` numbers."""
    size = 4 * values
    header = json.dumps({"weight": {"dtype": "F32", "shape": [values], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + fill * size


def image_zip() -> bytes:
    """A zip archive with one member; the API looks no deeper."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("one.png"), b"not looked at")  # always the same bytes: no time of day in it
    return buffer.getvalue()


def image_tar(mode: str = "w") -> bytes:
    """A tar with one member; ``mode`` says how it is compressed (``w:gz``)."""
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        info = tarfile.TarInfo("one.png")
        info.size = 13
        archive.addfile(info, BytesIO(b"not looked at"))
    return buffer.getvalue()


@dataclass(frozen=True)
class Running:
    """The service under test and what lies behind it."""

    url: str
    http: httpx.Client
    engine: Engine
    sessions: Sessions
    objects: ObjectStore
    uploads: Path

    def files(self) -> dict[str, tuple[str, bytes]]:
        """The two parts of a good submission."""
        return {"encoder": ("encoder.safetensors", safetensors()), "images": ("images.zip", image_zip())}

    def submit(self, kind: str = "purify") -> uuid.UUID:
        """Submit a good audit; its id."""
        answer = self.http.post("/audits", files=self.files(), data={"kind": kind})
        assert answer.status_code == 202, answer.text
        return uuid.UUID(answer.json()["id"])

    def start(self, audit_id: uuid.UUID) -> int:
        """Do what a worker does first; the attempt."""
        with self.sessions.begin() as session:
            audit = claim(session, audit_id, owner="test", lease=timedelta(hours=1))
            assert audit is not None
            return audit.attempt

    def succeed(self, audit_id: uuid.UUID, artifacts: dict[str, tuple[str, bytes]], folder: Path) -> None:
        """Do what a worker does last: store ``artifacts`` (name -> media type, bytes) and finish."""
        attempt = self.start(audit_id)
        stored = []
        for name, (media_type, content) in artifacts.items():
            path = folder / "artifact"
            path.write_bytes(content)
            kept = self.objects.put_file(f"audits/{audit_id}/{attempt}/{name}", path, media_type)
            stored.append(StoredFile(name, media_type, kept.size, kept.sha256, kept.object_key))
        with self.sessions.begin() as session:
            add_artifacts(session, audit_id, stored)
            assert finish(session, audit_id, attempt, Conclusion("backdoored", 0.9, 0.5))

    def fail(self, audit_id: uuid.UUID) -> None:
        """Fail an audit as a worker does."""
        attempt = self.start(audit_id)
        failure = {
            "code": "nan_weights",
            "field": "encoder",
            "found": "NaN",
            "expected": "numbers",
            "action": "Fix it.",
        }
        with self.sessions.begin() as session:
            assert fail(session, audit_id, attempt, failure)

    def kept(self) -> dict[str, int]:
        """How much is stored: rows of each table, objects, and files in quarantine."""
        with self.sessions() as session:
            counts = {
                table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
                for table in (Audit, Encoder, Dataset, IdempotencyKey)
            }
        objects = len(self.objects.list_keys("encoders/")) + len(self.objects.list_keys("datasets/"))
        return {**counts, "objects": objects, "quarantine": len(list(self.uploads.iterdir()))}


@pytest.fixture(scope="session")
def served(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    uploads = tmp_path_factory.mktemp("uploads")
    settings = ApiSettings(
        upload_directory=uploads,
        max_encoder_bytes=LARGEST_ENCODER,
        max_images_bytes=LARGEST_ENCODER,
        max_field_bytes=4096,
    )
    storage = StorageSettings.model_validate({name.lower(): value for name, value in stack.environment().items()})
    engine = create_engine(stack.database_url)
    upgrade(engine)
    objects = ObjectStore(storage)
    objects.ensure_bucket()
    port = free_ports(1)[0]
    server = uvicorn.Server(uvicorn.Config(create_app(settings, storage), port=port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=60, transport=httpx.HTTPTransport(retries=10)) as http:
        yield Running(url, http, engine, create_sessions(engine), objects, uploads)
    server.should_exit = True
    thread.join()
    engine.dispose()


@pytest.fixture
def service(served: Running) -> Running:
    """The service with nothing in it."""
    tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with served.engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables}"))
    served.objects.delete_prefix("encoders/")
    served.objects.delete_prefix("datasets/")
    return served


@pytest.fixture
def assert_problem() -> Callable[[httpx.Response, int, str], dict[str, object]]:
    """Check that an answer is a complete problem document with this status and code; returns it."""

    def check(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        body: dict[str, object] = answer.json()
        assert body["status"] == status
        assert body["code"] == code
        assert body["request_id"] == answer.headers["x-request-id"]
        assert body["instance"] == answer.request.url.path
        assert {"type", "title", "detail"} <= body.keys()
        return body

    return check
