"""One audit, from files to files: what the command line and the worker both call.

PLACEHOLDER CONTRACT (being filled in): the signatures below are agreed between the parts of the project.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.run import Run
from core.types import Verdict


@dataclass(frozen=True)
class AuditRequest:
    """What to audit. ``card`` and ``parameters`` are as the user gave them, not yet checked."""

    kind: str
    encoder: Path | None
    images: Path
    card: Mapping[str, Any] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    encoder_name: str | None = None  # the user's name for the file, where the path is a server's
    images_name: str | None = None


@dataclass(frozen=True)
class Artifact:
    """A file an audit leaves behind. ``name`` is stable: report.json, report.html, trigger.png, purified encoder..."""

    name: str
    path: Path
    media_type: str


@dataclass(frozen=True)
class AuditOutcome:
    """``report`` is the report's JSON (also the artifact report.json)."""

    verdict: Verdict
    score: float | None
    threshold: float | None
    report: Mapping[str, Any]
    artifacts: tuple[Artifact, ...]


def run_audit(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
    """Run the audit and write its artifacts into the existing folder ``output``.

    Raises:
        AuditError: with the problem in words for the user. Cancelled: when ``run`` was asked to stop.
    """
    raise NotImplementedError
