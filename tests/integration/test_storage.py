"""Repository functions, object storage and migrations against the real servers."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import IntegrityError

from api.storage import artifacts, audits, encoders, idempotency
from api.storage.audit_states import AuditState
from api.storage.files import StoredFile
from api.storage.migrate import current_revision, newest_revision, schema_differences, upgrade
from api.storage.objects import ObjectDamaged, ObjectMissing, ObjectStore
from api.storage.session import Sessions
from api.storage.tables import Base

Submit = Callable[..., uuid.UUID]
SHA = "0" * 64


def test_pages_of_audits_cover_all_of_them_once_newest_first(sessions: Sessions, submit: Submit) -> None:
    made = [submit() for _ in range(7)]
    with sessions.begin() as session:  # same instant for some: the id must break the tie
        session.execute(
            text("UPDATE audits SET created_at = date_trunc('hour', created_at) WHERE id = ANY(:ids)"),
            {"ids": made[:4]},
        )
    seen = []
    after = None
    with sessions.begin() as session:
        while page := audits.list_audits(session, limit=2, after=after):
            seen += [audit.id for audit in page]
            after = (page[-1].created_at, page[-1].id)
    assert sorted(seen, key=str) == sorted(made, key=str)
    assert seen[:3] == made[:3:-1]


def test_audits_are_filtered(sessions: Sessions, submit: Submit) -> None:
    cancelled, queued = submit(), submit()
    with sessions.begin() as session:
        audits.request_cancel(session, cancelled)
        assert [a.id for a in audits.list_audits(session, limit=9, state=AuditState.CANCELLED)] == [cancelled]
        assert [a.id for a in audits.list_audits(session, limit=9, state=AuditState.QUEUED, kind="detect")] == [queued]
        assert not audits.list_audits(session, limit=9, kind="purify")
        assert not audits.list_audits(session, limit=9, verdict="clean")


def test_artifact_names_are_unique_within_an_audit(sessions: Sessions, submit: Submit) -> None:
    one, two = submit(), submit()
    file = StoredFile("report.json", "application/json", 3, SHA, "key")
    with sessions.begin() as session:
        artifacts.add_artifacts(session, one, [file])
        artifacts.add_artifacts(session, two, [file])
    with pytest.raises(IntegrityError), sessions.begin() as session:
        artifacts.add_artifacts(session, one, [file])
    with sessions.begin() as session:
        assert artifacts.get_artifact(session, one, "report.json") is not None
        assert artifacts.get_artifact(session, one, "other") is None


def test_encoders_are_listed_and_forgotten(sessions: Sessions) -> None:
    with sessions.begin() as session:
        made = [encoders.create_encoder(session, StoredFile(f"{n}", "x/y", n, SHA, f"k{n}")).id for n in range(3)]
    with sessions.begin() as session:
        encoders.forget_encoder_object(session, made[0])
        first = encoders.list_encoders(session, limit=2)
        rest = encoders.list_encoders(session, limit=2, after=(first[-1].created_at, first[-1].id))
        assert {row.id for row in (*first, *rest)} == set(made)
        row = encoders.get_encoder(session, made[0])
    assert row is not None
    assert row.object_key is None


def test_an_idempotency_key_is_taken_once_and_the_second_waits_for_the_first(
    sessions: Sessions, submit: Submit
) -> None:
    audit_id = submit()
    answers: list[tuple[str, int | None]] = []
    with sessions.begin() as first:
        assert idempotency.take_key(first, "POST /audits", "k", "print-1") is None

        def second_request() -> None:
            with sessions.begin() as second:
                row = idempotency.take_key(second, "POST /audits", "k", "print-2")
                assert row is not None
                answers.append((row.fingerprint, row.status))

        thread = threading.Thread(target=second_request)
        thread.start()
        idempotency.store_response(
            first, "POST /audits", "k", status=202, headers={"Location": "/a"}, body={"id": "a"}, audit_id=audit_id
        )
    thread.join()
    assert answers == [("print-1", 202)]
    with sessions.begin() as session:
        assert idempotency.take_key(session, "POST /other", "k", "print-1") is None, "another scope is another key"


def test_a_key_of_a_request_that_failed_is_free_again(sessions: Sessions) -> None:
    with sessions() as session:
        assert idempotency.take_key(session, "s", "k", "p") is None
        session.rollback()
    with sessions.begin() as session:
        assert idempotency.take_key(session, "s", "k", "p") is None


def test_old_keys_are_forgotten(sessions: Sessions) -> None:
    with sessions.begin() as session:
        idempotency.take_key(session, "s", "old", "p")
        idempotency.take_key(session, "s", "new", "p")
        session.execute(text("UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = 'old'"))
        idempotency.delete_old_keys(session, timedelta(hours=24))
    with sessions.begin() as session:
        assert idempotency.find_key(session, "s", "old") is None
        assert idempotency.find_key(session, "s", "new") is not None


def test_objects_round_trip_with_their_digest(objects: ObjectStore, tmp_path: Path) -> None:
    content = os.urandom(3 * 1024 * 1024 + 17)
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(content)
    key = f"test/{uuid.uuid4()}"
    stored = objects.put_file(key, source, "application/zip")
    assert (stored.size, stored.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    objects.get_file(key, copy, sha256=stored.sha256)
    assert copy.read_bytes() == content
    assert b"".join(objects.read(key, 5, 1024)) == content[5:1025]
    assert b"".join(objects.read(key, len(content) - 3)) == content[-3:]
    objects.delete(key)
    objects.delete(key)
    with pytest.raises(ObjectMissing):
        objects.read(key)


def test_a_file_in_several_parts_round_trips(objects: ObjectStore, tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    with source.open("wb") as file:
        for part in range(70):
            file.write(bytes([part]) * 1024 * 1024)
    key = f"test/{uuid.uuid4()}"
    stored = objects.put_file(key, source, "application/zip")
    objects.get_file(key, copy, sha256=stored.sha256)
    assert copy.stat().st_size == stored.size == 70 * 1024 * 1024
    objects.delete(key)


def test_a_damaged_object_leaves_no_file(objects: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    key = f"test/{uuid.uuid4()}"
    objects.put_file(key, source, "text/plain")
    with pytest.raises(ObjectDamaged):
        objects.get_file(key, tmp_path / "copy", sha256="1" * 64)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_prefix_is_deleted_and_its_neighbour_is_not(objects: ObjectStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    base = f"test/{uuid.uuid4()}"
    for key in ("1/a", "1/b", "10/a"):
        objects.put_file(f"{base}/{key}", source, "text/plain")
    objects.delete_prefix(f"{base}/1/")
    assert objects.list_keys(f"{base}/") == [f"{base}/10/a"]


@pytest.fixture
def empty_database(engine: Engine) -> str:
    """URL of a database with nothing in it."""
    name = f"empty_{uuid.uuid4().hex}"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return engine.url.set(database=name).render_as_string(hide_password=False)


def catalogue(engine: Engine) -> set[tuple[str, ...]]:
    """Every column, constraint and index as PostgreSQL itself describes them."""
    queries = (
        "SELECT table_name, column_name, data_type, is_nullable, coalesce(column_default, '') "
        "FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace",
        "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    )
    with engine.connect() as connection:
        rows = {tuple(map(str, row)) for query in queries for row in connection.execute(text(query))}
    return {row for row in rows if row[0] != "alembic_version"}


def test_migrations_make_exactly_the_tables_of_the_code(empty_database: str, engine: Engine) -> None:
    migrated = create_engine(empty_database)
    upgrade(migrated)
    assert schema_differences(migrated) == []
    with migrated.connect() as connection:
        assert current_revision(connection) == newest_revision()
    by_migration = catalogue(migrated)
    with migrated.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    Base.metadata.create_all(migrated)
    # The comparison of Alembic does not look at check constraints; this one does.
    assert by_migration == catalogue(migrated)
    assert len(by_migration) > 60
    migrated.dispose()


def test_processes_that_start_together_migrate_once(empty_database: str) -> None:
    engines = [create_engine(empty_database) for _ in range(3)]
    with ThreadPoolExecutor(len(engines)) as pool:
        assert list(pool.map(upgrade, engines)) == [None] * len(engines)
    with engines[0].connect() as connection:
        assert current_revision(connection) == newest_revision()
    for engine in engines:
        engine.dispose()
