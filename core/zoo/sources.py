"""A recipe's data sets as labelled images, and poisoned copies of them; what is made is kept for the next encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from core.attacks.poison_truth import read_truth
from core.attacks.poisoning import find_poisoning, poison
from core.attacks.trigger_spec import TriggerSpec, parse_trigger
from core.errors import UsageError
from core.images.labelled import LabelledImages, load_labelled
from core.images.torchvision_sets import export_set
from core.run import Run
from core.training.checkpoints import fingerprint
from core.zoo.recipe import DataRecipe, PoisoningRecipe


@dataclass(frozen=True)
class SetPaths:
    """Where a labelled set's two halves are."""

    train: Path
    test: Path
    per_class: int | None = None


def find_set(recipe: DataRecipe, data: Path, work: Path) -> SetPaths:
    """The set's archives or folders. One of torchvision's is written as archives into ``work`` first.

    Raises:
        UsageError: it is not in the folder ``data``.
    """
    if recipe.torchvision is not None:
        halves = {half: work / f"{recipe.torchvision}-{half}.zip" for half in ("train", "test")}
        for half, path in halves.items():
            if not path.is_file():
                export_set(recipe.torchvision, data, path, train=half == "train")
        return SetPaths(halves["train"], halves["test"], recipe.per_class)
    assert recipe.train is not None and recipe.test is not None
    paths = SetPaths(data / recipe.train, data / recipe.test, recipe.per_class)
    for path in (paths.train, paths.test):
        if not path.exists():
            raise UsageError(
                "no_such_file",
                field="data",
                found=f"no file or folder at {path}",
                expected="the recipe's data sets in the folder given as --data",
                action="Check --data, or correct the recipe.",
            )
    return paths


@lru_cache(maxsize=2)
def read_set(path: Path, image_size: tuple[int, int], per_class: int | None = None) -> LabelledImages:
    """``load_labelled``, kept: the encoders of a zoo share their test set."""
    return load_labelled(path, image_size, limit_per_class=per_class)


def targets_of(recipe: PoisoningRecipe) -> list[tuple[str, TriggerSpec]]:
    """The classes to lead to, each with its trigger."""
    attack = find_poisoning(recipe.method)
    return [
        (
            target.label,
            attack.default_trigger(recipe.preset, index) if target.trigger is None else parse_trigger(target.trigger),
        )
        for index, target in enumerate(recipe.targets)
    ]


def poisoned_set(
    source: Path,
    recipe: PoisoningRecipe,
    targets: Sequence[tuple[str, TriggerSpec]],
    work: Path,
    run: Run,
    *,
    seed: int,
) -> Path:
    """The poisoned copy of ``source`` that ``recipe`` describes, made unless it is there already.

    Raises:
        AuditError: as ``core.attacks.poisoning.poison``.
    """
    attack = find_poisoning(recipe.method)
    values = {**attack.preset(recipe.preset), **recipe.values}
    triggers = [[label, spec.settings()] for label, spec in targets]
    key = fingerprint(str(source.resolve()), source.stat().st_mtime_ns, recipe.method, values, triggers, seed)
    folder = work / f"poisoned-{key[:16]}"
    output = folder / ("train" + source.suffix if source.is_file() else "train")
    if not (folder / "truth.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        poison(source, output, targets, recipe.method, values, run, seed=seed, force=True)
    read_truth(folder / "truth.json")
    return output
