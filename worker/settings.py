"""How a worker behaves, read from the environment. Where things are kept is in ``api.storage.settings``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.storage.settings import SettingsError, describe_settings_errors
from core.errors import UsageError
from core.forecast.words import parse_duration
from core.memory_size import parse_size
from core.threads import spare_threads


def _read_by(parse: Callable[[str], float]) -> BeforeValidator:
    """A field that ``parse`` reads; its refusal in the form of the others."""

    def read(value: object) -> object:
        try:
            return parse(value) if isinstance(value, str) else value
        except UsageError as error:
            raise ValueError(f"should be {error.problem.expected}") from None

    return BeforeValidator(read)


class WorkerSettings(BaseSettings):
    """One worker: its device, its slots, and the times by which a dead or stuck one is told from a busy one."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    worker_device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="device of the audits: auto, cpu, cuda or cuda:N; run one worker per GPU",
    )
    worker_slots: int = Field(default=1, ge=1, le=64, description="audits at a time; 1 on a GPU")
    cpu_threads: int | None = Field(
        default=None, ge=1, le=1024, description="threads per slot; absent: all cores but one, divided by the slots"
    )
    worker_time_limit: Annotated[float, _read_by(parse_duration)] | None = Field(
        default=None,
        description="audits that are sure to take longer are refused before their search, such as 2h; absent: none is",
    )
    worker_memory: Annotated[int, _read_by(parse_size)] | None = Field(
        default=None,
        description="memory that an audit's passes of its encoder may take, such as 3GiB; absent: a quarter of what is "
        "free when the audit starts",
    )
    worker_audits_per_process: int = Field(
        default=20,
        ge=1,
        description="messages after which a process is replaced; 1 returns all GPU memory after every audit, at the "
        "cost of importing torch again (seconds) before the next one",
    )
    worker_scratch: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()) / f"encoder-audit-{os.getuid()}",
        description="folder for the files of running audits; needs room for one encoder and its images per slot",
    )
    lease_seconds: float = Field(
        default=20.0, gt=0, le=3600, description="an audit whose worker is silent for so long is given to another"
    )
    stall_seconds: float = Field(
        default=900.0, gt=0, description="a worker whose audit makes no step for so long is taken for stuck"
    )
    tick_seconds: float = Field(default=0.5, gt=0, le=60, description="how often a running audit looks for a cancel")
    checkpoint_seconds: float = Field(default=10.0, gt=0, description="least time between two checkpoints of a stage")
    sweep_seconds: float = Field(default=5.0, gt=0, le=3600, description="how often lost and unsent audits are sought")
    resend_seconds: float = Field(
        default=60.0, gt=0, description="a queued audit is sent again after so long, if the broker's queue is empty"
    )
    max_losses: int = Field(default=3, ge=1, description="lost workers after which an audit fails")

    @property
    def lease(self) -> timedelta:
        """``lease_seconds`` as PostgreSQL wants it."""
        return timedelta(seconds=self.lease_seconds)

    @property
    def threads(self) -> int:
        """CPU threads of one slot."""
        return self.cpu_threads or spare_threads(self.worker_slots)


def load_worker_settings() -> WorkerSettings:
    """The settings from the environment.

    Raises:
        SettingsError: a variable is not of its form.
    """
    try:
        return WorkerSettings()
    except ValidationError as error:
        raise SettingsError(describe_settings_errors(WorkerSettings, error)) from None
