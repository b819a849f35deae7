"""The self-supervised trainers, one row each; they need the packages of the extra ``lab``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from core.errors import UsageError
from core.training.byol import Byol, ByolConfig
from core.training.config import TrainingConfig
from core.training.moco import Moco, MocoConfig
from core.training.moco_v3 import MocoV3, MocoV3Config
from core.training.objective import ObjectiveFactory
from core.training.simclr import Simclr, SimclrConfig


@dataclass(frozen=True)
class Trainer:
    """A way to train an encoder without labels."""

    key: str
    title: str
    config: type[TrainingConfig]
    objective: ObjectiveFactory

    @property
    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        """Preset name -> the values it sets; always with ``default``."""
        named: Mapping[str, Mapping[str, Any]] = getattr(self.config, "presets", {})
        return {"default": {}, **named}


TRAINERS: Mapping[str, Trainer] = MappingProxyType(
    {
        row.key: row
        for row in (
            Trainer("simclr", "SimCLR", SimclrConfig, Simclr),
            Trainer("moco-v2", "MoCo v2", MocoConfig, Moco),
            Trainer("moco-v3", "MoCo v3", MocoV3Config, MocoV3),
            Trainer("byol", "BYOL", ByolConfig, Byol),
        )
    }
)
"""Trainer by key; the first is the default."""


def find_trainer(key: str) -> Trainer:
    """The trainer called ``key``.

    Raises:
        UsageError: there is none.
    """
    if key not in TRAINERS:
        raise UsageError(
            "unknown_trainer",
            field="method",
            found=f"'{key}'",
            expected=f"one of {', '.join(TRAINERS)}",
            action="Choose one of these.",
        )
    return TRAINERS[key]
