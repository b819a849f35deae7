"""The forecast of an audit: its outline in passes, times what a pass costs here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from core.forecast.memory import expected_peak
from core.forecast.outline import Outline, Part
from core.forecast.probe import SECONDS, Speeds, measure_speeds
from core.kinds.findings import Subject
from core.passes import Workload, total


@dataclass(frozen=True)
class PartForecast:
    """A part of an audit with the seconds that it takes at least and at most, if it comes."""

    part: Part
    seconds_low: float
    seconds_high: float

    def to_json(self) -> dict[str, Any]:
        passes = self.part.passes
        return {
            "name": self.part.name,
            "certain": self.part.certain,
            "passes": round(passes.images),
            "passes_with_gradient": round(passes.backward + passes.training),
            "seconds_low": round(self.seconds_low, 1),
            "seconds_high": round(self.seconds_high, 1),
        }


@dataclass(frozen=True)
class Forecast:
    """What an audit will cost on ``device`` with so many CPU ``threads``.

    ``seconds_low`` is for an encoder (or a set) in which nothing is found, where every search that can end early does;
    ``seconds_high`` for one that calls for all that may follow. ``memory_bytes`` is the expected peak.
    """

    load: Workload
    parts: tuple[PartForecast, ...]
    speeds: Speeds
    memory_bytes: int
    device: str
    threads: int

    @property
    def passes(self) -> int:
        """Images through the encoder in the parts that are sure to come."""
        return round(total(one.part.passes for one in self.parts if one.part.certain).images)

    @property
    def seconds_low(self) -> float:
        return sum(one.seconds_low for one in self.parts if one.part.certain)

    @property
    def seconds_high(self) -> float:
        return sum(one.seconds_high for one in self.parts)

    @property
    def stage_seconds(self) -> Mapping[str, float]:
        """Stage name -> seconds, for the progress of the run; between the bounds where a search may end early."""
        return {
            name: self.speeds.seconds(passes) * (1 + one.part.settles_from) / 2
            for one in self.parts
            for name, passes in one.part.stages.items()
        }

    def of_other(self, outline: Outline) -> Forecast:
        """The forecast of another outline for the same encoder and images, from the same measurements."""
        return replace(self, parts=tuple(_priced(part, self.speeds) for part in outline))

    def summary(self) -> dict[str, Any]:
        """The four numbers that the service shows."""
        return {
            "passes": self.passes,
            "seconds_low": round(self.seconds_low, 1),
            "seconds_high": round(self.seconds_high, 1),
            "memory_bytes": self.memory_bytes,
        }

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            **self.summary(),
            "device": self.device,
            "threads": self.threads,
            "images_per_second": {
                name: round(1 / seconds, 2) for name, seconds in vars(self.speeds).items() if seconds
            },
            "parts": [one.to_json() for one in self.parts],
        }


def forecast_of(outline: Outline, subject: Subject, *, seconds: float = SECONDS) -> Forecast:
    """Measure the encoder of ``subject`` for about so many ``seconds`` and say what ``outline`` will cost."""
    encoder = subject.encoder
    needed = total(part.passes for part in outline)
    memory = expected_peak(encoder, subject.images, needed)
    speeds = measure_speeds(encoder, subject.images, needed, seconds=seconds)
    return Forecast(
        subject.load,
        tuple(_priced(part, speeds) for part in outline),
        speeds,
        memory,
        str(encoder.device),
        torch.get_num_threads(),
    )


def _priced(part: Part, speeds: Speeds) -> PartForecast:
    most = speeds.seconds(part.passes)
    return PartForecast(part, part.settles_from * most, most)
