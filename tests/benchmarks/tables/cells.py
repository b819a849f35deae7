"""One measured run as a value. Its fingerprint is a digest of all that decides what it measures.

The code is no part of the fingerprint: a table of hours is not thrown away for a changed comment. Every result names
the commit it was made at, and ``FORM`` is counted up when a method or a measurement changes what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.catalog import KINDS, read_parameters
from core.methods import Choice, Detect, Unlearn
from core.training.checkpoints import fingerprint
from tests.benchmarks.tables.encoders import ZooEncoder
from tests.benchmarks.tables.images import CleanImages
from tests.benchmarks.tables.poison_cells import CleansingRun, Retraining

FORM = 1


@dataclass(frozen=True)
class Measurement:
    """ACC and, of a backdoored encoder, ASR of ``encoder`` as given, on each set of ``evaluated_on``."""

    encoder: ZooEncoder
    evaluated_on: tuple[str, ...]
    sets: Mapping[str, list[object]]
    """Set -> what tells this copy of it from another, for every set that is used."""

    @property
    def needs(self) -> tuple[Cell, ...]:
        return ()

    def identity(self) -> dict[str, Any]:
        triggers = [[backdoor.trigger.name, backdoor.target] for backdoor in self.encoder.backdoors]
        return {
            "kind": "measure",
            "encoder": self.encoder.sha256,
            "triggers": triggers,
            "on": self.evaluated_on,
            "sets": self.sets,
        }

    @property
    def title(self) -> str:
        by = ", ".join(backdoor.trigger.stem for backdoor in self.encoder.backdoors)
        return f"measure {self.encoder.name}" + (f" with {by}" if by else "")


@dataclass(frozen=True)
class DetectionRun:
    """One detection; ``values`` are a request's for the section ``detection``."""

    encoder: ZooEncoder
    images: CleanImages
    values: Mapping[str, Any]
    seed: int
    sets: Mapping[str, list[object]]

    @property
    def needs(self) -> tuple[Cell, ...]:
        return ()

    def choice(self) -> Choice[Detect]:
        return read_parameters(KINDS["detect"], {"detection": self.values}).chosen["detection"]

    def identity(self) -> dict[str, Any]:
        return {
            "kind": "detect",
            "encoder": self.encoder.sha256,
            "images": [self.images.dataset, self.images.count],
            "detection": _resolved(self.choice()),
            "seed": self.seed,
            "sets": self.sets,
        }

    @property
    def title(self) -> str:
        return f"detect {self.encoder.name} by {_words(self.values)}, {_clean(self.images)}, seed {self.seed}"


@dataclass(frozen=True)
class Purification:
    """Unlearning of what ``detection`` found, and the measurement of the result.

    Not ``verified``: one unlearning. ``verified``: as the command does it, with detections of the result and further
    rounds; nothing is unlearnt where nothing was found.
    """

    detection: DetectionRun
    before: Measurement
    values: Mapping[str, Any]
    verified: bool = False

    @property
    def encoder(self) -> ZooEncoder:
        return self.detection.encoder

    @property
    def needs(self) -> tuple[Cell, ...]:
        return (self.detection, self.before)

    def choice(self) -> Choice[Unlearn]:
        return read_parameters(KINDS["purify"], {"purification": self.values}).chosen["purification"]

    def identity(self) -> dict[str, Any]:
        return {
            "kind": "purify",
            "detection": self.detection.identity(),
            "before": self.before.identity(),
            "purification": _resolved(self.choice()),
            "verified": self.verified,
        }

    @property
    def title(self) -> str:
        how = "purify and verify" if self.verified else "purify"
        by = f"{_words(self.values)} after {_words(self.detection.values)}"
        return f"{how} {self.encoder.name} by {by}, {_clean(self.detection.images)}, seed {self.detection.seed}"


@dataclass(frozen=True)
class AuditRun:
    """A whole audit of kind ``purify``, from files to files, as the command line runs it.

    ``parameters`` are a request's. ``before`` measures a backdoored encoder as given; None: neither it nor what is
    delivered is measured.
    """

    encoder: ZooEncoder
    images: CleanImages
    parameters: Mapping[str, Any]
    seed: int
    sets: Mapping[str, list[object]]
    before: Measurement | None

    @property
    def needs(self) -> tuple[Cell, ...]:
        return () if self.before is None else (self.before,)

    def identity(self) -> dict[str, Any]:
        chosen = read_parameters(KINDS["purify"], self.parameters).chosen
        return {
            "kind": "audit",
            "encoder": self.encoder.sha256,
            "images": [self.images.dataset, self.images.count],
            "before": None if self.before is None else self.before.identity(),
            "methods": {section: _resolved(choice) for section, choice in chosen.items()},
            "seed": self.seed,
            "sets": self.sets,
        }

    @property
    def title(self) -> str:
        how = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"audit {self.encoder.name} ({how}), {_clean(self.images)}, seed {self.seed}"


Cell = Measurement | DetectionRun | Purification | AuditRun | CleansingRun | Retraining


def key(cell: Cell) -> str:
    """The cell's fingerprint, which names its file."""
    return fingerprint(FORM, cell.identity())[:32]


def _resolved(choice: Choice[Any]) -> list[object]:
    """Every parameter, also those left at their default: a changed default is another run."""
    return [choice.method.key, choice.config.model_dump(mode="json")]


def _words(values: Mapping[str, Any]) -> str:
    others = ", ".join(f"{name}={value}" for name, value in values.items() if name != "method")
    return str(values["method"]) + (f" ({others})" if others else "")


def _clean(images: CleanImages) -> str:
    return f"{images.count} images of {images.dataset}"
