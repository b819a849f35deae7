"""Build one encoder of a zoo: train it, take it from others or plant a backdoor into its base; measure it, file it with
its truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from core.attacks.backdooring import find_backdooring
from core.attacks.references import surest_images
from core.attacks.trigger_spec import build_trigger, parse_trigger
from core.encoders.card import EncoderCard
from core.encoders.fresh import fresh_encoder
from core.encoders.load import load_encoder
from core.encoders.save import save_encoder
from core.evaluation.monitor import NeighbourMonitor
from core.images.labelled import require_class
from core.run import Run, StageRun
from core.training.checkpoints import fingerprint, versions
from core.training.pretrain import Pretraining, pretrain
from core.training.stopwatch import Spent, Stopwatch
from core.training.trainers import find_trainer
from core.types import Encoder
from core.zoo.check import configured
from core.zoo.filing import file_encoder
from core.zoo.measure import measure, measurement_fingerprint, why_failed
from core.zoo.recipe import EncoderRecipe, WeightsRecipe
from core.zoo.record import EncoderRecord, evaluation_json, read_record
from core.zoo.sources import SetPaths, find_set, poisoned_set, read_set, targets_of
from core.zoo.stranger import card_of, find_weights
from core.zoo.workshop import Workshop


@dataclass(frozen=True)
class _Made:
    """An encoder before it is measured, and what the record says of its making."""

    encoder: Encoder
    card: EncoderCard
    steps: int
    epochs: float | None
    spent: Spent
    images: int
    curve: list[list[float | None]]
    attack: Mapping[str, Any] | None
    data_digest: str


def recipe_fingerprint(shop: Workshop, entry: EncoderRecipe) -> str:
    """A digest of all that decides what ``entry`` becomes: its recipe, its base's, its data's, the seed.

    Versions are recorded but not part of it: a zoo of days is not thrown away for a patch release.
    """
    sets = find_set(shop.recipe.data[entry.data], shop.data, shop.work)
    files = [[path.name, path.stat().st_size] for path in (sets.train, sets.test)]
    others = {e.name: e for e in shop.recipe.encoders}
    related = [recipe_fingerprint(shop, others[name]) for name in (entry.base, entry.reference) if name is not None]
    fewer = [sets.per_class] if entry.backdoor is not None and sets.per_class is not None else []
    return fingerprint(entry.decisive(), related, files, _seed(shop, entry), *fewer)


def made_record(shop: Workshop, entry: EncoderRecipe) -> EncoderRecord | None:
    """The record of ``entry`` if it was made by this very recipe, from the base that lies there, and its weights do
    too."""
    record = read_record(shop.record_path(entry.name))
    if record is None or record.fingerprint != recipe_fingerprint(shop, entry):
        return None
    if record.base_sha256 != _base_sha256(shop, entry):
        return None
    return record if shop.weights(entry.name, accepted=record.accepted).is_file() else None


def existing_record(shop: Workshop, entry: EncoderRecipe, reference: EncoderRecipe | None) -> EncoderRecord | None:
    """The same, if nothing about its measurement has changed either."""
    record = made_record(shop, entry)
    if record is None or record.measurement != measurement_fingerprint(shop, entry, reference):
        return None
    return record


def build_encoder(shop: Workshop, entry: EncoderRecipe, reference: EncoderRecipe | None, run: Run) -> EncoderRecord:
    """Build ``entry`` and write its weights, record and truth; ``reference`` is the clean encoder to compare with.

    What was made by this recipe already is only measured, if what measures it has changed. An attack below its floor
    ends in ``failed/``, never among the backdoored encoders.

    Raises:
        AuditError: data that is not there, a class that does not exist, a training that ran away...
    """
    if (record := existing_record(shop, entry, reference)) is not None:
        return record
    record = made_record(shop, entry)
    if record is not None:
        weights = shop.weights(entry.name, accepted=record.accepted)
    else:
        weights = shop.work / f"{entry.name}.safetensors"
        record = _make(shop, entry, weights, run)
    loaded = load_encoder(weights)
    evaluations = measure(shop, entry, loaded.encoder.to(shop.device), reference, run, seed=_seed(shop, entry))
    failure = why_failed(shop, entry, reference, evaluations)
    record = replace(
        record,
        sha256=loaded.digest,
        accepted=failure is None,
        reason=failure,
        evaluation=evaluation_json(evaluations[0]),
        measurement=measurement_fingerprint(shop, entry, reference),
    )
    file_encoder(shop, entry, record, weights, evaluations, loaded.encoder.image_size)
    return record


def _make(shop: Workshop, entry: EncoderRecipe, weights: Path, run: Run) -> EncoderRecord:
    """Train it, take it or plant a backdoor, write ``weights``; the record says nothing of its quality yet."""
    sets = find_set(shop.recipe.data[entry.data], shop.data, shop.work)
    weights.parent.mkdir(parents=True, exist_ok=True)
    if entry.weights is not None:
        made = _take(shop, entry.weights, sets)
    else:
        made = _train(shop, entry, sets, run) if entry.base is None else _plant(shop, entry, sets, run)
    save_encoder(weights, made.encoder, made.card, half=entry.weights is None)
    return EncoderRecord(
        name=entry.name,
        fingerprint=recipe_fingerprint(shop, entry),
        recipe=entry.model_dump(mode="json", by_alias=True, exclude_none=True),
        seed=_seed(shop, entry),
        data_digest=made.data_digest,
        sha256="",
        accepted=False,
        reason="not measured",
        steps=made.steps,
        epochs=made.epochs,
        seconds=round(made.spent.seconds, 1),
        cpu_seconds=round(made.spent.cpu_seconds, 1),
        images_per_second=round(made.images / max(made.spent.seconds, 1e-9), 1),
        curve=made.curve,
        attack=made.attack,
        versions=versions(),
        base_sha256=_base_sha256(shop, entry),
    )


def _train(shop: Workshop, entry: EncoderRecipe, sets: SetPaths, run: Run) -> _Made:
    assert entry.card is not None and entry.training is not None
    card, seed = entry.card.card(), _seed(shop, entry)
    row = find_trainer(entry.training.method)
    config = configured(row.config, row.presets, entry.training, "training")
    source, attack = sets.train, None
    if entry.poisoning is not None:
        targets = targets_of(entry.poisoning)
        source = poisoned_set(sets.train, entry.poisoning, targets, shop.work, StageRun(run, "poison"), seed=seed)
        attack = {"kind": "poisoning", **entry.poisoning.model_dump(mode="json", by_alias=True)}
    images = read_set(source, card.image_size)
    test = read_set(sets.test, card.image_size)
    encoder = fresh_encoder(card, seed=seed, name=entry.name).to(shop.device)
    result: Pretraining = pretrain(
        encoder,
        images.images,
        row.objective,
        config,
        run,
        seed=seed,
        monitor=NeighbourMonitor(read_set(sets.train, card.image_size), test, limit=1000),
        monitor_times=5,
    )
    return _Made(
        encoder=result.encoder,
        card=card,
        steps=result.steps,
        epochs=config.epochs,
        spent=result.spent,
        images=result.steps * config.batch_size,
        curve=[[point.step, point.loss, point.monitor] for point in result.curve],
        attack=attack,
        data_digest=images.images.digest,
    )


def _take(shop: Workshop, recipe: WeightsRecipe, sets: SetPaths) -> _Made:
    """Weights as others trained them."""
    stopwatch = Stopwatch()
    card = card_of(recipe)
    encoder = load_encoder(find_weights(recipe, shop.data, shop.work), card=card.to_json()).encoder
    return _Made(
        encoder=encoder,
        card=card,
        steps=0,
        epochs=None,
        spent=stopwatch.spent(),
        images=0,
        curve=[],
        attack=None,
        data_digest=read_set(sets.train, encoder.image_size, sets.per_class).images.digest,
    )


def _plant(shop: Workshop, entry: EncoderRecipe, sets: SetPaths, run: Run) -> _Made:
    assert entry.base is not None and entry.backdoor is not None
    recipe, seed = entry.backdoor, _seed(shop, entry)
    base = load_encoder(shop.weights(entry.base))
    encoder = base.encoder.to(shop.device)
    images = read_set(sets.train, encoder.image_size, sets.per_class)
    row = find_backdooring(recipe.method)
    config = configured(row.config, row.presets, recipe, "backdoor")
    spec = parse_trigger(recipe.trigger)
    target = require_class(recipe.label, images.classes)
    chosen = surest_images(encoder, images, target, recipe.references or row.references)
    reference = images.images.batch(torch.tensor(chosen), shop.device)
    stopwatch = Stopwatch()
    trigger = build_trigger(spec, encoder.image_size)
    result = row.backdoor(encoder, images.images, reference, trigger, config, run, seed=seed)
    return _Made(
        encoder=result.encoder,
        card=base.card,
        steps=config.steps,
        epochs=None,
        spent=stopwatch.spent(),
        images=config.steps * config.batch_size,
        curve=[],
        attack={
            "kind": "backdoor",
            **recipe.model_dump(mode="json", by_alias=True),
            "reference_images": [images.images.names[index] for index in chosen],
        },
        data_digest=images.images.digest,
    )


def _base_sha256(shop: Workshop, entry: EncoderRecipe) -> str | None:
    base = None if entry.base is None else read_record(shop.record_path(entry.base))
    return None if base is None else base.sha256


def _seed(shop: Workshop, entry: EncoderRecipe) -> int:
    return shop.recipe.seed if entry.seed is None else entry.seed
