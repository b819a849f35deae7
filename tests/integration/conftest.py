"""A migrated database, emptied before each test, and what a worker needs around it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from api.embedded.stack import Stack
from api.storage import audits, datasets, encoders
from api.storage.files import StoredFile
from api.storage.migrate import upgrade
from api.storage.objects import ObjectStore
from api.storage.session import Sessions, create_sessions
from api.storage.settings import StorageSettings
from api.storage.tables import Audit, Base
from worker.execute import WorkerContext
from worker.settings import WorkerSettings


@pytest.fixture(scope="session")
def storage_settings(stack: Stack) -> StorageSettings:
    return StorageSettings.model_validate({name.lower(): value for name, value in stack.environment().items()})


@pytest.fixture(scope="session")
def engine(stack: Stack) -> Iterator[Engine]:
    engine = create_engine(stack.database_url, pool_size=20)
    upgrade(engine)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def objects(storage_settings: StorageSettings) -> ObjectStore:
    store = ObjectStore(storage_settings)
    store.ensure_bucket()
    return store


@pytest.fixture
def sessions(engine: Engine) -> Sessions:
    """Sessions on empty tables."""
    tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables}"))
    return create_sessions(engine)


@pytest.fixture
def worker_settings(tmp_path: Path) -> WorkerSettings:
    """Times short enough for tests."""
    return WorkerSettings(
        worker_device="cpu",
        worker_scratch=tmp_path / "scratch",
        lease_seconds=5.0,
        tick_seconds=0.05,
        checkpoint_seconds=0.05,
    )


@pytest.fixture
def context(sessions: Sessions, objects: ObjectStore, worker_settings: WorkerSettings) -> WorkerContext:
    """A worker process's surroundings, in this process."""
    return WorkerContext(
        sessions, objects, worker_settings, "test-worker", stopping=lambda: False, on_stuck=lambda: None
    )


@pytest.fixture
def other_context(context: WorkerContext) -> WorkerContext:
    """A second worker on the same database and objects."""
    return replace(context, owner="other-worker")


@pytest.fixture
def submit(sessions: Sessions, objects: ObjectStore, tmp_path: Path) -> Callable[..., uuid.UUID]:
    """Stores two small files and a queued audit that names them, for ``cleanse`` the images only; returns the audit's
    id."""

    def stored(folder: str, name: str, content: bytes) -> StoredFile:
        path = tmp_path / name
        path.write_bytes(content)
        done = objects.put_file(f"{folder}/{uuid.uuid4()}", path, "application/octet-stream")
        return StoredFile(name, "application/octet-stream", done.size, done.sha256, done.object_key)

    def submit(
        *,
        inline: bool = False,
        queue: str = "cpu",
        parameters: dict[str, object] | None = None,
        kind: str = "detect",
        images: bytes = b"images",
    ) -> uuid.UUID:
        with sessions.begin() as session:
            dataset = datasets.create_dataset(session, stored("datasets", "images.zip", images))
            encoder = None
            if kind != "cleanse":
                encoder = encoders.create_encoder(session, stored("encoders", "encoder.safetensors", b"weights")).id
            new = audits.NewAudit(
                kind, queue, encoder, dataset.id, parameters=parameters or {}, seed=7, inline_uploads=inline
            )
            return audits.create_audit(session, new).id

    return submit


@pytest.fixture
def audit_row(sessions: Sessions) -> Callable[[uuid.UUID], Audit]:
    """The audit as it stands now."""

    def read(audit_id: uuid.UUID) -> Audit:
        with sessions.begin() as session:
            audit = audits.get_audit(session, audit_id)
            assert audit is not None
            return audit

    return read
