"""Measure an encoder of a zoo against its truth, and say whether it is what it was meant to be."""

from __future__ import annotations

from core.attacks.trigger_spec import TriggerSpec, build_trigger, parse_trigger
from core.encoders.load import load_encoder
from core.errors import AuditFailed
from core.evaluation.acceptance import attack_failed, poisoning_failed
from core.evaluation.accuracy import Evaluation, KnownBackdoor, evaluate
from core.evaluation.probes import EvaluateConfig
from core.images.labelled import require_class
from core.run import Run, StageRun
from core.training.checkpoints import fingerprint
from core.triggers.file import AnyTrigger
from core.types import Encoder
from core.zoo.recipe import EncoderRecipe
from core.zoo.record import EncoderRecord, read_record
from core.zoo.sources import find_set, read_set, targets_of
from core.zoo.workshop import Workshop

PROBES = EvaluateConfig(probes=("linear", "linear-1pct", "knn"))
FORM = 3
"""Counted up when what a measurement says changes without a change of ``PROBES``: encoders are then measured anew."""


def measurement_fingerprint(shop: Workshop, entry: EncoderRecipe, reference: EncoderRecipe | None) -> str:
    """A digest of all that decides what a measurement says, besides the encoder: the probes, the clean reference."""
    record = None if reference is None else read_record(shop.record_path(reference.name))
    fewer = shop.recipe.data[entry.data].per_class
    return fingerprint(
        PROBES.model_dump(mode="json"), FORM, None if record is None else record.sha256, *([fewer] if fewer else [])
    )


def known_backdoors(entry: EncoderRecipe) -> tuple[tuple[str, TriggerSpec], ...]:
    """Target class and trigger of each backdoor that ``entry`` asks for; none for a clean encoder."""
    if entry.poisoning is not None:
        return tuple(targets_of(entry.poisoning))
    if entry.backdoor is not None:
        return ((entry.backdoor.label, parse_trigger(entry.backdoor.trigger)),)
    return ()


def trigger_for_test(entry: EncoderRecipe, spec: TriggerSpec, image_size: tuple[int, int]) -> AnyTrigger:
    """The trigger of one of ``entry``'s backdoors as it is tested.

    A patch that poisoned images carry at random places is tested at a quarter of the image, inside their range; one
    that was planted into an encoder is tested where it was planted.
    """
    return build_trigger(_placed(spec, image_size) if entry.poisoning is not None else spec, image_size)


def _placed(spec: TriggerSpec, image_size: tuple[int, int]) -> TriggerSpec:
    if not spec.is_patch or spec.top is not None:
        return spec
    height, width = image_size
    top, left = (min(extent // 4, extent - spec.side) for extent in (height, width))
    return spec.model_copy(update={"top": max(0, top), "left": max(0, left)})


def measure(
    shop: Workshop, entry: EncoderRecipe, encoder: Encoder, reference: EncoderRecipe | None, run: Run, *, seed: int
) -> list[Evaluation]:
    """One evaluation for each backdoor of ``encoder``; a clean encoder's has no ASR."""
    sets = find_set(shop.recipe.data[entry.data], shop.data, shop.work)
    train, test = (read_set(path, encoder.image_size, sets.per_class) for path in (sets.train, sets.test))
    backdoors = known_backdoors(entry)
    if not backdoors:
        return [evaluate(encoder, train, test, None, PROBES, run, seed=seed)]
    clean = None if reference is None else load_encoder(shop.weights(reference.name)).encoder.to(shop.device)
    evaluations = []
    for index, (label, spec) in enumerate(backdoors):
        known = KnownBackdoor(
            trigger_for_test(entry, spec, encoder.image_size),
            require_class(label, train.classes),
        )
        aside = run if index == 0 else StageRun(run, f"backdoor {index + 1}")
        evaluations.append(evaluate(encoder, train, test, known, PROBES, aside, reference=clean, seed=seed))
    return evaluations


def why_failed(
    shop: Workshop, entry: EncoderRecipe, reference: EncoderRecipe | None, evaluations: list[Evaluation]
) -> str | None:
    """Why the encoder is not what it was meant to be; None if it is."""
    if entry.poisoning is not None:
        return poisoning_failed(evaluations)
    if entry.backdoor is None:
        return None
    assert reference is not None
    record: EncoderRecord | None = read_record(shop.record_path(reference.name))
    if record is None:
        raise AuditFailed(
            "reference_missing",
            field="reference",
            found=f"no record of {reference.name}",
            expected="a reference that was built before",
            action="Build it first.",
        )
    return attack_failed(float(record.evaluation["acc"]["percent"]), evaluations[0])
