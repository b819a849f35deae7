"""The clean encoders that ship with the package as a yardstick (``bands.json``), and how to read them.

``encoder-audit zoo calibrate`` writes the file from a zoo's clean encoders: for each preset of a detection method its
parameters, and each encoder's score for each kind of trigger, by its key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from core.config import MethodConfig
from core.recovery.nulls import Null, Observation, null_for

FORMAT = "encoder-audit-bands/2"


@dataclass(frozen=True)
class Band:
    """Clean encoders searched with one set of parameters."""

    preset: str
    config: Mapping[str, Any]
    observed: tuple[Observation, ...]

    def null(self, key: str, family: str) -> Null | None:
        return null_for(key, family, self.observed)


@lru_cache(maxsize=1)
def shipped_bands() -> tuple[Band, ...]:
    """The bands of this version."""
    return read_bands(files("core.recovery").joinpath("bands.json").read_text(encoding="utf-8"))


def shipped_observations() -> tuple[Observation, ...]:
    """The clean encoders of the default parameters."""
    return shipped_bands()[0].observed


def band_for(config: MethodConfig, bands: Sequence[Band]) -> Band | None:
    """The band that was measured with exactly these parameters; None if there is none."""
    wanted = config.model_dump(mode="json")
    return next((band for band in bands if dict(band.config) == wanted), None)


def read_bands(text: str) -> tuple[Band, ...]:
    """The bands in the JSON ``text``.

    Raises:
        ValueError: not a file of this format.
    """
    document = json.loads(text)
    if document.get("format") != FORMAT:
        raise ValueError(f"format {document.get('format')!r}, not {FORMAT}")
    return tuple(
        Band(row["preset"], row["config"], tuple(Observation(**one) for one in row["encoders"]))
        for row in document["bands"]
    )


def bands_json(bands: Sequence[Band], notes: Mapping[str, Any]) -> str:
    """The file's text; ``notes`` say how and on what it was measured."""
    rows = [
        {"preset": band.preset, "config": dict(band.config), "encoders": [asdict(one) for one in band.observed]}
        for band in bands
    ]
    return json.dumps({"format": FORMAT, **notes, "bands": rows}, indent=2) + "\n"
