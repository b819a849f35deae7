"""The files of measured cells: one JSON file each, and what the detections found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.zoo.record import write_json
from tests.benchmarks.tables.cells import Cell, DetectionRun, key
from tests.benchmarks.tables.poison_cells import CleansingRun


@dataclass(frozen=True)
class ResultStore:
    """``folder/cells/FINGERPRINT.json`` and ``folder/found/FINGERPRINT.safetensors``."""

    folder: Path

    def prepare(self) -> None:
        for name in ("cells", "found"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def path(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{key(cell)}.json"

    def kept(self, cell: DetectionRun | CleansingRun) -> Path:
        """Where a detection is kept for the purifications that start from it, a keep list for the training."""
        return self.folder / "found" / f"{key(cell)}.safetensors"

    def read(self, cell: Cell) -> dict[str, Any] | None:
        """The cell's result; None when it was not run. Half a file is none: results are written at once."""
        try:
            document: dict[str, Any] = json.loads(self.path(cell).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if (
            isinstance(cell, DetectionRun | CleansingRun)
            and document["problem"] is None
            and not self.kept(cell).is_file()
        ):
            return None
        return document

    def write(self, cell: Cell, document: Mapping[str, Any]) -> None:
        write_json(self.path(cell), document)
