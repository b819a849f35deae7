"""The base of the report's parts."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Sha256 = str


class ReportPart(BaseModel):
    """Base of the report's parts: frozen, exactly the fields below, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)
