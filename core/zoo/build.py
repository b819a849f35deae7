"""Build one encoder of a zoo: train it or plant a backdoor into its base, measure it, file it with its truth."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.attacks.backdooring import find_backdooring
from core.attacks.references import surest_images
from core.attacks.trigger_spec import TriggerSpec, build_trigger, parse_trigger
from core.encoders.fresh import fresh_encoder
from core.encoders.load import LoadedEncoder, load_encoder
from core.encoders.save import save_encoder
from core.errors import AuditFailed
from core.evaluation.acceptance import attack_failed, poisoning_failed
from core.evaluation.accuracy import Evaluation, KnownBackdoor, evaluate
from core.evaluation.monitor import NeighbourMonitor
from core.evaluation.probes import EvaluateConfig
from core.images.labelled import require_class
from core.run import Run, StageRun
from core.training.checkpoints import fingerprint, versions
from core.training.pretrain import Pretraining, pretrain
from core.training.trainers import find_trainer
from core.triggers import save_trigger
from core.types import Encoder
from core.zoo.check import configured
from core.zoo.recipe import EncoderRecipe
from core.zoo.record import EncoderRecord, evaluation_json, read_record, write_json
from core.zoo.sources import SetPaths, find_set, poisoned_set, read_set, targets_of
from core.zoo.workshop import Workshop

PROBES = EvaluateConfig(probes=("linear", "linear-1pct", "knn"))


@dataclass(frozen=True)
class _Made:
    """An encoder before it is measured, and what the record says of its making."""

    encoder: Encoder
    loaded_base: LoadedEncoder | None
    steps: int
    epochs: float | None
    seconds: float
    images: int
    curve: list[list[float | None]]
    backdoors: tuple[tuple[str, TriggerSpec], ...]
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
    return fingerprint(entry.model_dump(mode="json", by_alias=True), related, files, _seed(shop, entry))


def existing_record(shop: Workshop, entry: EncoderRecipe) -> EncoderRecord | None:
    """The record of ``entry`` if it was built by this very recipe and its weights are still there."""
    record = read_record(shop.record_path(entry.name))
    if record is None or record.fingerprint != recipe_fingerprint(shop, entry):
        return None
    return record if shop.weights(entry.name, accepted=record.accepted).is_file() else None


def build_encoder(shop: Workshop, entry: EncoderRecipe, reference: EncoderRecipe | None, run: Run) -> EncoderRecord:
    """Build ``entry`` and write its weights, record and truth; ``reference`` is the clean encoder to compare with.

    An attack below its floor ends in ``failed/``, never among the backdoored encoders.

    Raises:
        AuditError: data that is not there, a class that does not exist, a training that ran away...
    """
    sets = find_set(shop.recipe.data[entry.data], shop.data, shop.work)
    made = _train(shop, entry, sets, run) if entry.base is None else _plant(shop, entry, sets, run)
    shop.work.mkdir(parents=True, exist_ok=True)
    unmeasured = shop.work / f"{entry.name}.safetensors"
    card = made.loaded_base.card if made.loaded_base is not None else _card(entry)
    save_encoder(unmeasured, made.encoder, card)
    loaded = load_encoder(unmeasured)
    clean = None if reference is None else load_encoder(shop.weights(reference.name)).encoder.to(shop.device)
    evaluations = _measure(shop, loaded.encoder.to(shop.device), clean, sets, made, run, seed=_seed(shop, entry))
    failure = _failure(shop, entry, reference, evaluations)
    record = EncoderRecord(
        name=entry.name,
        fingerprint=recipe_fingerprint(shop, entry),
        recipe=entry.model_dump(mode="json", by_alias=True, exclude_none=True),
        seed=_seed(shop, entry),
        data_digest=made.data_digest,
        sha256=loaded.digest,
        accepted=failure is None,
        reason=failure,
        steps=made.steps,
        epochs=made.epochs,
        seconds=round(made.seconds, 1),
        images_per_second=round(made.images / max(made.seconds, 1e-9), 1),
        curve=made.curve,
        evaluation=evaluation_json(evaluations[0]),
        attack=made.attack,
        versions=versions(),
    )
    _file(shop, entry, record, unmeasured, made, evaluations, loaded.encoder.image_size)
    return record


def _train(shop: Workshop, entry: EncoderRecipe, sets: SetPaths, run: Run) -> _Made:
    assert entry.card is not None and entry.training is not None
    card, seed = _card(entry), _seed(shop, entry)
    row = find_trainer(entry.training.method)
    config = configured(row.config, row.presets, entry.training, "training")
    source, attack = sets.train, None
    backdoors: tuple[tuple[str, TriggerSpec], ...] = ()
    if entry.poisoning is not None:
        targets = targets_of(entry.poisoning)
        backdoors = tuple(targets)
        source = poisoned_set(sets.train, entry.poisoning, targets, shop.work, StageRun(run, "poison"), seed=seed)
        attack = {"kind": "poisoning", **entry.poisoning.model_dump(mode="json", by_alias=True)}
    images = read_set(source, card.image_size)
    test = read_set(sets.test, card.image_size)
    encoder = fresh_encoder(card, seed=seed, name=entry.name).to(shop.device)
    started = time.monotonic()
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
        loaded_base=None,
        steps=result.steps,
        epochs=config.epochs,
        seconds=time.monotonic() - started,
        images=result.steps * config.batch_size,
        curve=[[point.step, point.loss, point.monitor] for point in result.curve],
        backdoors=backdoors,
        attack=attack,
        data_digest=images.images.digest,
    )


def _plant(shop: Workshop, entry: EncoderRecipe, sets: SetPaths, run: Run) -> _Made:
    assert entry.base is not None and entry.backdoor is not None
    recipe, seed = entry.backdoor, _seed(shop, entry)
    base = load_encoder(shop.weights(entry.base))
    encoder = base.encoder.to(shop.device)
    images = read_set(sets.train, encoder.image_size)
    row = find_backdooring(recipe.method)
    config = configured(row.config, row.presets, recipe, "backdoor")
    spec = parse_trigger(recipe.trigger)
    target = require_class(recipe.label, images.classes)
    chosen = surest_images(encoder, images, target, recipe.references or row.references)
    reference = images.images.batch(torch.tensor(chosen), shop.device)
    started = time.monotonic()
    trigger = build_trigger(spec, encoder.image_size)
    result = row.backdoor(encoder, images.images, reference, trigger, config, run, seed=seed)
    references = [images.images.names[index] for index in chosen]
    return _Made(
        encoder=result.encoder,
        loaded_base=base,
        steps=config.steps,
        epochs=None,
        seconds=time.monotonic() - started,
        images=config.steps * config.batch_size,
        curve=[],
        backdoors=((recipe.label, spec),),
        attack={"kind": "backdoor", "references": references, **recipe.model_dump(mode="json", by_alias=True)},
        data_digest=images.images.digest,
    )


def _measure(
    shop: Workshop, encoder: Encoder, clean: Encoder | None, sets: SetPaths, made: _Made, run: Run, *, seed: int
) -> list[Evaluation]:
    """One evaluation for each backdoor; a clean encoder's has no ASR."""
    train, test = (read_set(path, encoder.image_size) for path in (sets.train, sets.test))
    if not made.backdoors:
        return [evaluate(encoder, train, test, None, PROBES, run, seed=seed)]
    evaluations = []
    for index, (label, spec) in enumerate(made.backdoors):
        known = KnownBackdoor(
            build_trigger(spec_for_test(spec, encoder.image_size), encoder.image_size),
            require_class(label, train.classes),
        )
        aside = run if index == 0 else StageRun(run, f"backdoor {index + 1}")
        evaluations.append(evaluate(encoder, train, test, known, PROBES, aside, reference=clean, seed=seed))
    return evaluations


def spec_for_test(spec: TriggerSpec, image_size: tuple[int, int]) -> TriggerSpec:
    """Where a patch that was trained at random places is tested: at a quarter of the image, inside their range."""
    if not spec.is_patch or spec.top is not None:
        return spec
    height, width = image_size
    top, left = (min(extent // 4, extent - spec.side) for extent in (height, width))
    return spec.model_copy(update={"top": max(0, top), "left": max(0, left)})


def _file(
    shop: Workshop,
    entry: EncoderRecipe,
    record: EncoderRecord,
    weights: Path,
    made: _Made,
    evaluations: list[Evaluation],
    image_size: tuple[int, int],
) -> None:
    """Put everything in its place: truth first, the record last, so that what has a record is whole."""
    truth = shop.output / "truth"
    for folder in (truth, shop.output / "failed", shop.output / "records"):
        folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index, (_, spec) in enumerate(made.backdoors):
        name = f"{entry.name}.npz" if index == 0 else f"{entry.name}-{index}.npz"
        save_trigger(truth / name, build_trigger(spec_for_test(spec, image_size), image_size))
        files.append(name)
    first = evaluations[0]
    write_json(
        truth / f"{entry.name}.json",
        {
            "attack": "none (clean)" if made.attack is None else str(made.attack["method"]),
            "accepted": record.accepted,
            "trigger": files[0] if files else None,
            "target_class": None if first.target_class is None else first.classes.index(first.target_class),
            "target_name": first.target_class,
            # Poisoned pre-training gives weak backdoors: a miss there is not what a miss of a planted one is.
            "hard": entry.poisoning is not None,
            "more": [
                {"trigger": file, "target_name": label}
                for file, (label, _) in list(zip(files, made.backdoors, strict=True))[1:]
            ],
        },
    )
    weights.replace(shop.weights(entry.name, accepted=record.accepted))
    shop.weights(entry.name, accepted=not record.accepted).unlink(missing_ok=True)
    record.write(shop.record_path(entry.name))


def _failure(
    shop: Workshop, entry: EncoderRecipe, reference: EncoderRecipe | None, evaluations: list[Evaluation]
) -> str | None:
    """Why the encoder is not what it was meant to be; None if it is."""
    if entry.poisoning is not None:
        return poisoning_failed(evaluations)
    if entry.backdoor is None:
        return None
    assert reference is not None
    record = read_record(shop.record_path(reference.name))
    if record is None:
        raise AuditFailed(
            "reference_missing",
            field="reference",
            found=f"no record of {reference.name}",
            expected="a reference that was built before",
            action="Build it first.",
        )
    return attack_failed(float(record.evaluation["acc"]["percent"]), evaluations[0])


def _card(entry: EncoderRecipe) -> Any:
    assert entry.card is not None
    return entry.card.card()


def _seed(shop: Workshop, entry: EncoderRecipe) -> int:
    return shop.recipe.seed if entry.seed is None else entry.seed
