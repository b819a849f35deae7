"""Where a zoo is built, and where in it everything lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from core.zoo.recipe import ZooRecipe


@dataclass(frozen=True)
class Workshop:
    """Where a zoo is built: ``data`` holds the sets, ``output`` gets the encoders, ``work`` what is made on the way."""

    recipe: ZooRecipe
    data: Path
    output: Path
    device: torch.device

    @property
    def work(self) -> Path:
        return self.output / "work"

    def weights(self, name: str, *, accepted: bool = True) -> Path:
        return (self.output if accepted else self.output / "failed") / f"{name}.safetensors"

    def record_path(self, name: str) -> Path:
        return self.output / "records" / f"{name}.json"
