"""The encoders that verdicts are calibrated on, as ``encoder-audit zoo calibrate`` writes them to a file.

The file holds what searches found in each encoder and the digest of its weights, never weights. Clean ones give the
null distributions, those with a known backdoor the probability that a verdict states.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from core.decision.evidence import Context, Examination
from core.decision.null_distribution import NullDistribution, Prediction, Sample, Tail

FORMAT = "encoder-audit-calibration/1"
Part = Literal["design", "calibration", "test"]


@dataclass(frozen=True)
class ReferenceEncoder:
    """An encoder of which is known whether it has a backdoor: ``attack`` names it, None for a clean one.

    Encoders of one ``recipe`` differ in their seed alone, and count as one where recipes are compared. ``sha256`` is of
    the weights file.
    """

    name: str
    recipe: str
    part: Part
    sha256: str
    attack: str | None
    examination: Examination

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        known = {"name": self.name, "recipe": self.recipe, "part": self.part, "sha256": self.sha256}
        return {**known, "attack": self.attack, **self.examination.to_json()}


@dataclass(frozen=True)
class Fit:
    """The numbers of one search's null distribution (``null_distribution.fitted``)."""

    scales: Mapping[str, float]
    tail: Tail


@dataclass(frozen=True)
class Calibration:
    """Reference encoders examined with one set of search parameters, and what was fitted to them.

    ``odds`` are the intercept and the slope of the log odds of a backdoor over the evidence (``rule.strength``).
    """

    preset: str
    config: Mapping[str, Any]
    encoders: tuple[ReferenceEncoder, ...]
    fits: Mapping[str, Fit] = field(default_factory=dict)
    odds: tuple[float, float] = (0.0, 0.0)

    @property
    def clean(self) -> tuple[ReferenceEncoder, ...]:
        return tuple(one for one in self.encoders if one.attack is None)

    def sample(self, key: str) -> Sample | None:
        """The clean encoders' statistics in the search ``key``; None if none was searched."""
        rows = [(one, e) for one in self.clean for e in one.examination.evidence if e.key == key]
        if not rows:
            return None
        coordinates = [list(one.examination.context.coordinates().values()) for one, _ in rows]
        return Sample(
            np.array([evidence.statistic for _, evidence in rows]),
            np.array(coordinates),
            [one.examination.context.family for one, _ in rows],
            [one.recipe for one, _ in rows],
        )

    def null(self, key: str) -> NullDistribution | None:
        """What clean encoders show in the search ``key``; None where that was not measured."""
        return self._nulls.get(key)

    def predict(self, key: str, context: Context) -> Prediction | None:
        """What a further clean encoder in this ``context`` shows in the search ``key``."""
        null = self.null(key)
        return None if null is None else null.predict(np.array(list(context.coordinates().values())), context.family)

    @cached_property
    def _nulls(self) -> dict[str, NullDistribution]:
        samples = {key: self.sample(key) for key in self.fits}
        return {
            key: NullDistribution(sample, self.fits[key].scales, self.fits[key].tail)
            for key, sample in samples.items()
            if sample is not None
        }

    def outside(self, context: Context) -> tuple[str, ...]:
        """The coordinates of ``context`` beyond all clean encoders', in words: nothing was measured there."""
        measured = [one.examination.context.coordinates() for one in self.clean]
        words = []
        for name, value in context.coordinates().items():
            seen = [one[name] for one in measured]
            margin = _MARGINS[name]
            if not min(seen) - margin <= value <= max(seen) + margin:
                words.append(f"{name} ({_range(name, value)}; measured: {_range(name, min(seen))} to "
                             f"{_range(name, max(seen))})")  # fmt: skip
        return tuple(words)


_MARGINS = {
    "side": 0.25,
    "clean similarity": 0.15,
    "contrast": 0.25,
    "number of images": 0.5,
    "dose response": 0.3,
    "colour response": 0.5,
}
"""How far beyond the measured range a coordinate may lie, on its own scale: octaves, or differences."""


@lru_cache(maxsize=1)
def shipped_calibrations() -> tuple[Calibration, ...]:
    """The calibrations of this version, the default parameters' first."""
    return read_calibrations(files("core.decision").joinpath("calibration.json").read_text(encoding="utf-8"))


def read_calibrations(text: str) -> tuple[Calibration, ...]:
    """The calibrations in the JSON ``text``.

    Raises:
        ValueError: not a file of this format.
    """
    document = json.loads(text)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"not a file of the format {FORMAT}")
    try:
        return tuple(_calibration(row) for row in document["calibrations"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"a field is missing or of another kind: {error}") from error


def calibrations_json(calibrations: Sequence[Calibration], notes: Mapping[str, Any]) -> str:
    """The file's text; ``notes`` say how and on what it was measured."""
    rows = [
        {
            "preset": one.preset,
            "config": dict(one.config),
            "odds": list(one.odds),
            "fits": {key: {"scales": dict(fit.scales), "tail": [fit.tail.freedom, fit.tail.scale]}
                     for key, fit in one.fits.items()},
            "encoders": [encoder.to_json() for encoder in one.encoders],
        }
        for one in calibrations
    ]  # fmt: skip
    return json.dumps({"format": FORMAT, **notes, "calibrations": rows}, indent=1) + "\n"


def _calibration(row: Mapping[str, Any]) -> Calibration:
    encoders = tuple(
        ReferenceEncoder(
            one["name"], one["recipe"], one["part"], one["sha256"], one["attack"], Examination.from_json(one)
        )
        for one in row["encoders"]
    )
    fits = {key: Fit(fit["scales"], Tail(*fit["tail"])) for key, fit in row["fits"].items()}
    return Calibration(row["preset"], row["config"], encoders, fits, (row["odds"][0], row["odds"][1]))


def _range(name: str, value: float) -> str:
    if name == "clean similarity":
        return f"{1 - np.exp(-value):.2f}"
    return f"{2**value:.3g}" if name in ("side", "contrast", "number of images") else f"{value:.2f}"
