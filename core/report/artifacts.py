"""The files that an audit leaves behind, and what it was given: the nouns that those who write them share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from core.encoders.load import LoadedEncoder
from core.encoders.reading import Reading
from core.kinds.findings import Subject
from core.methods import Choice
from core.report.model import ArtifactRow
from core.stage_clock import StageTime
from core.types import ImageSet

REPORT_FILES = (
    "report.json",
    "report.html",
    "trigger.png",
    "mask.png",
    "triggered_samples.png",
    "trigger.npz",
    "candidates.png",
    "flagged.png",
)
"""Names of the artifacts that make up the report; a report may lack some."""

DELIVERED = "encoder"
"""Name of the artifact that is the purified encoder, whatever its file is called."""

THREAT_MODEL = "threat-model.safetensors"
"""Name of the artifact that is the encoder trained on a suspect set where none was given."""


CLEANED = "cleaned"
"""Name of the artifact that is a set without what was removed from it, before the suffix of its form."""


@dataclass(frozen=True)
class Artifact:
    """A file an audit leaves behind; ``name`` is stable. A cleaned set that came as a folder is a folder, too."""

    name: str
    path: Path
    media_type: str


@dataclass(frozen=True)
class Inputs:
    """What the audit was given and how it was run. ``loaded`` and ``encoder_path`` are None where no encoder was given;
    ``values`` are the kind's own parameters; ``began`` is the start on the monotonic clock, in seconds."""

    kind: str
    subject: Subject
    loaded: LoadedEncoder | None
    reading: Reading
    encoder_path: Path | None
    container: str | None
    encoder_name: str | None
    images_path: Path
    images_name: str
    chosen: Mapping[str, Choice[Any]]
    values: Mapping[str, Any]
    device: torch.device
    started: datetime
    began: float
    stages: Sequence[StageTime]

    @property
    def images(self) -> ImageSet:
        return self.subject.images

    @property
    def seed(self) -> int:
        return self.subject.seed


def artifact_row(artifact: Artifact) -> ArtifactRow:
    """The artifact with its size and digest. Of a folder: the sum, and the digest over names and files' digests."""
    files = sorted(path for path in artifact.path.rglob("*") if path.is_file()) if artifact.path.is_dir() else []
    if artifact.path.is_dir():
        whole = hashlib.sha256()
        for path in files:
            whole.update(
                f"{path.relative_to(artifact.path).as_posix()}\0{_sha256(path)}\n".encode(errors="surrogateescape")
            )
        digest, size = whole.hexdigest(), sum(path.stat().st_size for path in files)
    else:
        digest, size = _sha256(artifact.path), artifact.path.stat().st_size
    return ArtifactRow(name=artifact.name, media_type=artifact.media_type, bytes=size, sha256=digest)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
