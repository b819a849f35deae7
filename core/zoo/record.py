"""What is known of one encoder of a zoo: how it was made and how it measured. Written beside the weights."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.evaluation.results import Evaluation


@dataclass(frozen=True)
class EncoderRecord:
    """``accepted`` is False for an attack below its floor (``reason`` says which): it is not filed as a backdoored one.

    ``seconds`` (on the clock), ``cpu_seconds`` and ``images_per_second`` (on the clock) are of the training or the
    attack alone; an image is counted once for its two views. ``evaluation`` is ``core.evaluation.results.Evaluation``
    as JSON; ``measurement`` is a digest of how it was measured, ``base_sha256`` the weights' digest of the encoder that
    a backdoor was planted into.
    """

    name: str
    fingerprint: str
    recipe: Mapping[str, Any]
    seed: int
    data_digest: str
    sha256: str
    accepted: bool
    reason: str | None
    steps: int
    epochs: float | None
    seconds: float
    images_per_second: float
    curve: list[list[float | None]] = field(default_factory=list)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    attack: Mapping[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    cpu_seconds: float | None = None
    base_sha256: str | None = None
    measurement: str = ""

    def write(self, path: Path) -> None:
        """As JSON, at once."""
        write_json(path, {"format": "encoder-audit-zoo-record/1", **asdict(self)})


def read_record(path: Path) -> EncoderRecord | None:
    """The record at ``path``; None when there is none, or an unreadable one: the encoder is then built again."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values.pop("format")
        return EncoderRecord(**values)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON values."""
    return json.loads(json.dumps(asdict(evaluation)))  # type: ignore[no-any-return]


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write ``document`` to ``path`` at once."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path)
