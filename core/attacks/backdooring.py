"""Every attack on an encoder that is already trained. A new one is one file and one row here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from core.attacks import bad_encoder, drupe
from core.attacks.planting import BackdooredEncoder, PlantingConfig
from core.errors import UsageError
from core.run import Run
from core.types import Encoder, Images, ImageSet, Trigger


class Backdoor(Protocol):
    """Plant a trigger into a copy of an encoder. ``config`` is of the attack's own class."""

    def __call__(
        self,
        encoder: Encoder,
        images: ImageSet,
        reference: Images,
        trigger: Trigger,
        config: Any,
        run: Run,
        *,
        seed: int,
    ) -> BackdooredEncoder: ...


@dataclass(frozen=True)
class Backdooring:
    """One attack. ``references`` is how many reference images it takes by default."""

    key: str
    title: str
    description: str
    config: type[PlantingConfig]
    references: int
    backdoor: Backdoor

    @property
    def presets(self) -> Mapping[str, Mapping[str, Any]]:
        """Preset name -> the values it sets; always with ``default``."""
        named: Mapping[str, Mapping[str, Any]] = getattr(self.config, "presets", {})
        return {"default": {}, **named}


BACKDOORINGS: tuple[Backdooring, ...] = (
    Backdooring(
        "bad-encoder",
        "BadEncoder",
        "Triggered images get the features of a reference image (Jia et al., IEEE S&P 2022).",
        bad_encoder.BadEncoderConfig,
        1,
        bad_encoder.backdoor,
    ),
    Backdooring(
        "drupe",
        "DRUPE",
        "A BadEncoder whose triggered features hide among the clean ones (Tao et al., IEEE S&P 2024).",
        drupe.DrupeConfig,
        3,
        drupe.backdoor,
    ),
)


def find_backdooring(key: str) -> Backdooring:
    """The row of the attack ``key``.

    Raises:
        UsageError: there is none.
    """
    for row in BACKDOORINGS:
        if row.key == key:
            return row
    raise UsageError(
        "unknown_attack",
        field="method",
        found=f"'{key}'",
        expected=f"one of {', '.join(row.key for row in BACKDOORINGS)}",
        action="Choose one of these.",
    )
