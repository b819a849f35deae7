"""What the HTTP service can be told from outside; addresses of the engines are in ``api.storage.settings``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MEBIBYTE = 1024 * 1024
GIBIBYTE = 1024 * MEBIBYTE


class ApiSettings(BaseSettings):
    """Limits and places, from environment variables of the same names in upper case."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    upload_directory: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()),
        description="where uploads lie while they arrive; needs room for the largest uploads at once",
    )
    max_encoder_bytes: int = Field(default=4 * GIBIBYTE, gt=0, description="largest encoder file, bytes")
    max_images_bytes: int = Field(default=20 * GIBIBYTE, gt=0, description="largest archive of images, bytes")
    max_field_bytes: int = Field(default=MEBIBYTE, gt=0, description="largest card, parameters or JSON body, bytes")
    poll_seconds: int = Field(default=2, ge=1, description="how long clients are asked to wait between two polls")
    log_format: Literal["json", "text"] = Field(default="json", description="form of the log lines")
