"""Put a measured encoder in its place: among the clean or backdoored ones, or in ``failed/``."""

from __future__ import annotations

from pathlib import Path

from core.evaluation.accuracy import Evaluation
from core.triggers import save_trigger
from core.zoo.measure import known_backdoors, trigger_for_test
from core.zoo.recipe import EncoderRecipe
from core.zoo.record import EncoderRecord, write_json
from core.zoo.workshop import Workshop


def file_encoder(
    shop: Workshop,
    entry: EncoderRecipe,
    record: EncoderRecord,
    weights: Path,
    evaluations: list[Evaluation],
    image_size: tuple[int, int],
) -> None:
    """Move ``weights`` where ``record`` says: truth first, the record last, so that what has a record is whole."""
    truth = shop.output / "truth"
    for folder in (truth, shop.output / "failed", shop.output / "records"):
        folder.mkdir(parents=True, exist_ok=True)
    backdoors = known_backdoors(entry)
    files = []
    for index, (_, spec) in enumerate(backdoors):
        name = f"{entry.name}.npz" if index == 0 else f"{entry.name}-{index}.npz"
        save_trigger(truth / name, trigger_for_test(entry, spec, image_size))
        files.append(name)
    first = evaluations[0]
    write_json(
        truth / f"{entry.name}.json",
        {
            "attack": "none (clean)" if record.attack is None else str(record.attack["method"]),
            "accepted": record.accepted,
            "trigger": files[0] if files else None,
            "target_class": None if first.target_class is None else first.classes.index(first.target_class),
            "target_name": first.target_class,
            # Poisoned pre-training gives weak backdoors: a miss there is not what a miss of a planted one is.
            "hard": entry.poisoning is not None,
            "more": [
                {"trigger": file, "target_name": label}
                for file, (label, _) in list(zip(files, backdoors, strict=True))[1:]
            ],
        },
    )
    weights.replace(shop.weights(entry.name, accepted=record.accepted))
    shop.weights(entry.name, accepted=not record.accepted).unlink(missing_ok=True)
    record.write(shop.record_path(entry.name))
