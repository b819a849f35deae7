"""``truth.json``: which images of a poisoned set are poisoned, how and from what. It stays with the attacker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from core.errors import UnsupportedInput

TRUTH_FILE = "truth.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TrueBox(_Record):
    """A rectangle of pixels; ``top`` and ``left`` count from 0."""

    top: int
    left: int
    height: int
    width: int


class TrueTarget(_Record):
    """A target class, its trigger in words, and the file that holds it at the set's usual size."""

    target: str
    trigger: dict[str, Any]
    file: str


class PoisonedImage(_Record):
    """``name`` is the image's path in the poisoned set, ``sources`` are paths in the clean one. ``trigger`` is an index
    into ``targets``, None for a support image without trigger. ``box`` is None where the whole image is changed."""

    name: str
    target: str
    trigger: int | None
    box: TrueBox | None
    sources: list[str]
    added: bool


class Skipped(_Record):
    name: str
    reason: str


class Truth(_Record):
    """``renamed`` maps names in the poisoned set to names in the clean one, for clean images whose names are not the
    same but for the suffix. ``image_size`` is the usual (height, width)."""

    format: int = 1
    set: str
    attack: str
    config: dict[str, Any]
    seed: int
    images: int
    image_size: tuple[int, int]
    targets: list[TrueTarget]
    poisoned: list[PoisonedImage]
    renamed: dict[str, str]
    skipped: list[Skipped]


def write_truth(path: Path, truth: Truth) -> None:
    """The file's bytes depend on ``truth`` alone."""
    text = json.dumps(truth.model_dump(mode="json"), indent=1, ensure_ascii=True, allow_nan=False)
    path.write_text(text + "\n", encoding="ascii")


def read_truth(path: Path) -> Truth:
    """The record in the file ``path``.

    Raises:
        UnsupportedInput: no such file, or another kind of file.
    """
    try:
        return Truth.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise UnsupportedInput(
            "not_a_truth_file",
            field="truth",
            found=f"'{path.name}': {str(error).splitlines()[0]}",
            expected="the truth.json that was written beside a poisoned set",
            action="Poison the set again.",
        ) from error
