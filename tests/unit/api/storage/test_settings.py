"""Where things are kept, from the environment."""

from __future__ import annotations

import pytest

from api.storage.settings import SettingsError, load_storage_settings

COMPLETE = {"DATABASE_URL": "postgresql://u:p@db/audits", "REDIS_URL": "redis://r/0", "S3_BUCKET": "b"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*COMPLETE, "S3_ENDPOINT_URL", "S3_ACCESS_KEY", "S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID", "AUDIT_QUEUE"):
        monkeypatch.delenv(name, raising=False)


def complete(monkeypatch: pytest.MonkeyPatch, **more: str) -> None:
    for name, value in (COMPLETE | more).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_any_postgresql_url_gets_the_driver(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    complete(monkeypatch, DATABASE_URL=f"{scheme}://u:p@db/audits")
    assert load_storage_settings().database_url == "postgresql+psycopg://u:p@db/audits"


def test_everything_missing_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load_storage_settings()
    for name in COMPLETE:
        assert f"{name} is not set" in str(caught.value)


def test_another_database_is_refused_without_repeating_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    complete(monkeypatch, DATABASE_URL="mysql://u:hunter2@db/audits")
    with pytest.raises(SettingsError, match=r"DATABASE_URL .*must start with postgresql") as caught:
        load_storage_settings()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["S3_ACCESS_KEY", "S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"])
def test_names_of_the_access_key(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    complete(monkeypatch, **{name: "key"})
    assert load_storage_settings().s3_access_key == "key"


def test_an_empty_variable_is_an_absent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    complete(monkeypatch, S3_ENDPOINT_URL="")
    assert load_storage_settings().s3_endpoint_url is None
