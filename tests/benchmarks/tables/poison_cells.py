"""Measured runs about poisoned sets as values: a cleansing, and a training on what it kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.catalog import KINDS, read_parameters
from core.methods import Choice, Cleanse
from tests.benchmarks.tables.encoders import ZooEncoder
from tests.benchmarks.tables.poisoned import PoisonedSet


@dataclass(frozen=True)
class CleansingRun:
    """One cleansing; ``values`` are a request's for the section ``cleansing``.

    ``twin``: of the same images without poison, with the clean reference as the threat model.
    """

    poisoned: PoisonedSet
    values: Mapping[str, Any]
    seed: int
    sets: Mapping[str, list[object]]
    twin: bool = False

    @property
    def needs(self) -> tuple[()]:
        return ()

    @property
    def encoder(self) -> ZooEncoder:
        return self.poisoned.reference if self.twin else self.poisoned.encoder

    def choice(self) -> Choice[Cleanse]:
        return read_parameters(KINDS["cleanse"], {"cleansing": self.values}).chosen["cleansing"]

    def identity(self) -> dict[str, Any]:
        choice = self.choice()
        return {
            "kind": "cleanse",
            "encoder": self.encoder.sha256,
            "poisoning": None if self.twin else _recipe(self.poisoned),
            "cleansing": [choice.method.key, choice.config.model_dump(mode="json")],
            "seed": self.seed,
            "sets": self.sets,
        }

    @property
    def title(self) -> str:
        others = ", ".join(f"{name}={value}" for name, value in self.values.items() if name != "method")
        how = str(self.values["method"]) + (f" ({others})" if others else "")
        what = f"the clean twin of {self.poisoned.name}" if self.twin else self.poisoned.name
        return f"cleanse {what} by {how}, seed {self.seed}"


@dataclass(frozen=True)
class Retraining:
    """A training by the set's own recipe on what ``cleansing`` kept, measured with the set's triggers."""

    cleansing: CleansingRun

    @property
    def needs(self) -> tuple[CleansingRun, ...]:
        return (self.cleansing,)

    @property
    def encoder(self) -> ZooEncoder:
        return self.cleansing.encoder

    def identity(self) -> dict[str, Any]:
        recipe = self.cleansing.poisoned.recipe.model_dump(mode="json", by_alias=True)
        return {"kind": "retrain", "cleansing": self.cleansing.identity(), "recipe": recipe}

    @property
    def title(self) -> str:
        return f"train again on what is left after: {self.cleansing.title}"


def _recipe(poisoned: PoisonedSet) -> dict[str, Any]:
    assert poisoned.recipe.poisoning is not None
    return {"seed": poisoned.seed, **poisoned.recipe.poisoning.model_dump(mode="json", by_alias=True)}
