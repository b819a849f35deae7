"""A cleansing, and a training on what it kept, from files to numbers. The truth is read after the cleansing is done."""

from __future__ import annotations

from typing import Any

import torch

from core.attacks.poison_truth import PoisonedImage, TrueBox
from core.checkpoint import load_checkpoint, save_checkpoint
from core.cleansing.result import Candidate, Cleansing, Window
from core.encoders.fresh import fresh_encoder
from core.images.load import load_images
from core.run import Run
from core.stage_clock import StageClock
from core.training.pretrain import pretrain
from core.training.stopwatch import Stopwatch
from core.training.trainers import find_trainer
from core.types import Encoder, ImageSet
from core.zoo.check import configured
from tests.benchmarks.tables.images import ImageLibrary
from tests.benchmarks.tables.measurement import measure
from tests.benchmarks.tables.poison_cells import CleansingRun, Retraining
from tests.benchmarks.tables.results import ResultStore
from tests.benchmarks.tables.spent import spent

CUT_OF_PAPER = 0.5
ON_THE_PATCH = 0.5
"""Share of a true patch that a candidate's window must cover to count as a hit."""


def cleanse(
    cell: CleansingRun, encoder: Encoder, library: ImageLibrary, store: ResultStore, run: Run
) -> dict[str, Any]:
    """What was removed, and how much of it rightly."""
    images = _images(cell, encoder, library)
    clock, stopwatch = StageClock(run), Stopwatch()
    choice = cell.choice()
    found = choice.method.apply(encoder, images, choice.config, clock, seed=cell.seed)
    cost = spent(stopwatch, clock, encoder)
    save_checkpoint(store.kept(cell), {"keep": found.keep.to(torch.uint8)})
    return {**judged(found, images, _truth(cell, encoder, library)), **cost}


def retrain(
    cell: Retraining, library: ImageLibrary, store: ResultStore, run: Run, device: torch.device
) -> dict[str, Any]:
    """ACC and ASR of an encoder trained on what was kept."""
    poisoned = cell.cleansing.poisoned
    recipe = poisoned.recipe
    assert recipe.card is not None and recipe.training is not None
    card = recipe.card.card()
    fresh = fresh_encoder(card, seed=poisoned.seed, name="encoder").to(device)
    keep = load_checkpoint(store.kept(cell.cleansing))["keep"].bool()
    images = _images(cell.cleansing, fresh, library).subset(keep.nonzero().flatten())
    row = find_trainer(recipe.training.method)
    config = configured(row.config, row.presets, recipe.training, "training")
    clock, stopwatch = StageClock(run), Stopwatch()
    trained = pretrain(fresh, images, row.objective, config, clock, seed=poisoned.seed).encoder
    cost = spent(stopwatch, clock, trained)
    name = poisoned.encoder.dataset
    return {"images": len(images), "measured": {name: measure(trained, poisoned.encoder, name, library, run)}, **cost}


def judged(found: Cleansing, images: ImageSet, poisoned: dict[str, PoisonedImage]) -> dict[str, Any]:
    """Counts and shares, per cent, of ``found`` against the truth; ``poisoned`` maps the names of poisoned images."""
    removed = {images.names[index] for index in (~found.keep).nonzero().flatten().tolist()}
    hits = [on_the_patch(candidate, poisoned) for candidate in found.candidates]
    searched = [on_the_patch(candidate, poisoned) for candidate in found.candidates if candidate.found_by == "search"]
    rightly = len(removed & poisoned.keys())
    flagged = _flagged(found, images)
    rightly_flagged = len(flagged & poisoned.keys())
    return {
        "verdict": str(found.verdict),
        "images": len(images),
        "poisoned": len(poisoned),
        "removed": len(removed),
        "scored": found.scored,
        "window": found.window,
        "clusters": found.clusters,
        "top_20": _share(sum(hits[:20]), len(hits[:20])),
        "top_50": _share(sum(hits[:50]), len(hits[:50])),
        "searched_top_20": _share(sum(searched[:20]), len(searched[:20])),
        "searched_top_50": _share(sum(searched[:50]), len(searched[:50])),
        "recall": _share(rightly, len(poisoned)),
        "precision": _share(rightly, len(removed)),
        "classifier_recall": _share(rightly_flagged, len(poisoned)),
        "classifier_precision": _share(rightly_flagged, len(flagged)),
        "triggers": len({candidate.group for candidate in found.candidates if candidate.group is not None}),
        "reasons": list(found.reasons),
    }


def _flagged(found: Cleansing, images: ImageSet) -> set[str]:
    """Names of the images that the poison classifier alone, at the paper's cut, would have removed."""
    above = found.findings.classifier_score > CUT_OF_PAPER  # not a number where none was trained
    return {images.names[index] for index in above.nonzero().flatten().tolist()}


def on_the_patch(candidate: Candidate, poisoned: dict[str, PoisonedImage]) -> bool:
    """Whether the window covers enough of the patch of its image; never of a clean image."""
    truth = poisoned.get(candidate.name)
    if truth is None or truth.box is None:
        return False
    return _overlap(truth.box, candidate.window) >= ON_THE_PATCH * truth.box.height * truth.box.width


def _overlap(box: TrueBox, window: Window) -> int:
    high = min(box.top + box.height, window.top + window.side) - max(box.top, window.top)
    wide = min(box.left + box.width, window.left + window.side) - max(box.left, window.left)
    return max(0, high) * max(0, wide)


def _images(cell: CleansingRun, encoder: Encoder, library: ImageLibrary) -> ImageSet:
    """The images of the set, at the encoder's size. Their names tell nothing to the methods, which ask for no name."""
    path = library.training_half(cell.encoder.dataset) if cell.twin else cell.poisoned.files(library)[0]
    return load_images(path, encoder.image_size)


def _truth(cell: CleansingRun, encoder: Encoder, library: ImageLibrary) -> dict[str, PoisonedImage]:
    if cell.twin:
        return {}
    _, truth = cell.poisoned.files(library)
    factor = encoder.image_size[0] / truth.image_size[0]
    return {each.name: _scaled(each, factor) for each in truth.poisoned if each.trigger is not None}


def _scaled(image: PoisonedImage, factor: float) -> PoisonedImage:
    """``image`` as an encoder of another size sees it."""
    if image.box is None or factor == 1:
        return image
    box = {name: round(factor * value) for name, value in image.box.model_dump().items()}
    return image.model_copy(update={"box": TrueBox(**box)})


def _share(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
