"""Where the service keeps things, read from the environment."""

from __future__ import annotations

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(Exception):
    """The environment does not say what it must; the message names each variable and what it should hold."""


class StorageSettings(BaseSettings):
    """Addresses and credentials of PostgreSQL, the broker and object storage."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True)

    database_url: str = Field(description="PostgreSQL, as postgresql://user:password@host:5432/name")
    redis_url: str = Field(description="broker (Redis or Valkey), as redis://host:6379/0")
    s3_endpoint_url: str | None = Field(default=None, description="object storage; AWS S3 when absent")
    s3_bucket: str = Field(description="bucket for uploads, artifacts and checkpoints")
    s3_region: str = Field(
        default="us-east-1",
        validation_alias=AliasChoices("S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"),
        description="region of the bucket",
    )
    s3_access_key: str | None = Field(
        default=None,
        validation_alias=AliasChoices("S3_ACCESS_KEY", "S3_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"),
        description="access key; absent: the machine's own role",
    )
    s3_secret_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("S3_SECRET_KEY", "S3_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"),
        description="secret of the access key",
    )
    audit_queue: str = Field(default="cpu", description="broker queue that new audits go to: cpu or gpu")
    database_pool_size: int = Field(default=5, ge=1, le=100, description="connections kept open per process")

    @field_validator("database_url")
    @classmethod
    def _use_psycopg(cls, url: str) -> str:
        for prefix in ("postgresql://", "postgres://"):
            if url.startswith(prefix):
                return "postgresql+psycopg://" + url.removeprefix(prefix)
        if not url.startswith("postgresql+psycopg://"):
            raise ValueError("must start with postgresql://")
        return url


def load_storage_settings() -> StorageSettings:
    """The settings from the environment.

    Raises:
        SettingsError: a variable is missing or not of its form; values are not repeated, they may hold passwords.
    """
    try:
        return StorageSettings()  # the fields come from the environment
    except ValidationError as error:
        raise SettingsError(describe_settings_errors(StorageSettings, error)) from None


def describe_settings_errors(model: type[BaseSettings], error: ValidationError) -> str:
    """One line per variable at fault: its name, what is wrong, what it should hold."""
    lines = []
    for fault in error.errors(include_input=False, include_url=False):
        name = str(fault["loc"][0]) if fault["loc"] else "environment"
        field = model.model_fields.get(name.lower())
        wrong = "is not set" if fault["type"] == "missing" else fault["msg"].lower()
        meaning = f" ({field.description})" if field is not None and field.description else ""
        lines.append(f"{name.upper()} {wrong}{meaning}")
    return "; ".join(lines)
