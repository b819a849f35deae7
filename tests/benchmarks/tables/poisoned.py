"""The poisoned training sets of a zoo, each with the encoder that was trained on it: what cleansing is measured on.

An attack below its floor is no backdoored encoder, but its set is poisoned all the same, so it counts here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from core.attacks.poison_truth import TRUTH_FILE, Truth, read_truth
from core.run import QuietRun
from core.zoo.recipe import EncoderRecipe
from core.zoo.sources import poisoned_set, targets_of
from tests.benchmarks.tables.encoders import ZooEncoder, read_encoder
from tests.benchmarks.tables.images import ImageLibrary


@dataclass(frozen=True)
class PoisonedSet:
    """``encoder`` was trained on it by ``recipe``, ``reference`` on the same images without poison; ``zoo`` is the
    folder that both lie in."""

    name: str
    encoder: ZooEncoder
    reference: ZooEncoder
    recipe: EncoderRecipe
    seed: int
    zoo: Path

    @property
    def never_poisoned(self) -> ZooEncoder:
        """The reference, to be measured with this set's triggers."""
        return replace(self.reference, backdoors=self.encoder.backdoors)

    def files(self, library: ImageLibrary) -> tuple[Path, Truth]:
        """The poisoned set and its truth; made again where the zoo's folder has lost it."""
        assert self.recipe.poisoning is not None
        source = library.training_half(self.encoder.dataset)
        targets = targets_of(self.recipe.poisoning)
        path = poisoned_set(source, self.recipe.poisoning, targets, self.zoo / "work", QuietRun(), seed=self.seed)
        return path, read_truth(path.parent / TRUTH_FILE)


def read_poisoned_sets(folders: Sequence[Path]) -> tuple[PoisonedSet, ...]:
    """The poisoned sets of all ``folders``, by name; those without a clean reference are left out."""
    found = [_read(folder, path) for folder in folders for path in sorted((folder / "records").glob("*.json"))]
    return tuple(each for each in found if each is not None)


def _read(folder: Path, record_path: Path) -> PoisonedSet | None:
    record = json.loads(record_path.read_text(encoding="utf-8"))
    if not record["recipe"].get("poisoning") or not record["recipe"].get("reference"):
        return None
    recipe = EncoderRecipe.model_validate(record["recipe"])
    assert recipe.reference is not None
    weights = (folder if record["accepted"] else folder / "failed") / f"{recipe.name}.safetensors"
    if not weights.is_file() or not (folder / f"{recipe.reference}.safetensors").is_file():
        return None
    return PoisonedSet(
        recipe.name,
        read_encoder(folder, recipe.name, weights),
        read_encoder(folder, recipe.reference, folder / f"{recipe.reference}.safetensors"),
        recipe,
        record["seed"],
        folder,
    )
