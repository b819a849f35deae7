"""Writing a poisoned set so that nothing but its pixels tells the poisoned images from the others.

Every image, poisoned or not, is decoded and encoded again as PNG with the same settings: a poison among JPEGs would be
given away by its format or by being compressed twice, and a spectral trigger would not survive another compression.
Clean images keep their pixels, size and name (but for the suffix; see ``core.attacks.poisoned_names`` for sets to which
images are added). All files carry one and the same time and stand in the order of their names. One image is in memory
at a time. The same input, configuration and seed give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from core.attacks.poison_plan import Poison, Target
from core.attacks.poison_truth import TRUTH_FILE, PoisonedImage, Skipped, TrueBox, TrueTarget, Truth, write_truth
from core.attacks.poisoned_names import output_entries, renamed
from core.attacks.set_destination import publish, trigger_file, workplace
from core.attacks.source_set import Pixels, SourceSet
from core.attacks.trigger_spec import build_trigger
from core.config import MethodConfig
from core.images.set_writers import into_folder, into_zip
from core.run import Run
from core.triggers import save_trigger
from core.types import RejectedImage

STAGE = "write the poisoned set"


@dataclass(frozen=True)
class PoisonedSet:
    """What was written. ``poisoned`` counts the poisoned images of each target in their order, ``added`` those of them
    that replace no image; ``images`` is the size of the whole set."""

    path: Path
    truth: Path
    triggers: tuple[Path, ...]
    classes: int
    images: int
    poisoned: tuple[int, ...]
    added: int
    skipped: tuple[RejectedImage, ...]


def write_poisoned_set(
    source: SourceSet,
    output: Path,
    targets: Sequence[Target],
    poisons: Sequence[Poison],
    config: MethodConfig,
    run: Run,
    *,
    attack: str,
    seed: int,
    zipped: bool,
) -> PoisonedSet:
    """Write the set to ``output`` (a zip or a folder), the truth and the triggers beside it; all of it or nothing.

    The place must have been checked (``check_destination``). What stands there is replaced.
    """
    entries = output_entries(source, poisons, seed)
    names = list(entries)
    with workplace(output) as work:
        with (into_zip if zipped else into_folder)(work / output.name) as write:
            for step in run.steps(STAGE, len(names)):
                image = entries[names[step]]
                write(names[step], _png(source.read(image) if isinstance(image, str) else image.paint()))
        for target in targets:
            save_trigger(work / trigger_file(target.index), build_trigger(target.trigger, source.usual_size))
        write_truth(work / TRUTH_FILE, _truth(source, output, targets, entries, config, attack, seed))
        publish(work, output, len(targets))
    beside = output.parent
    return PoisonedSet(
        output,
        beside / TRUTH_FILE,
        tuple(beside / trigger_file(target.index) for target in targets),
        len(source.classes),
        len(entries),
        tuple(sum(poison.target == target for poison in poisons) for target in targets),
        sum(poison.replaces is None for poison in poisons),
        source.skipped,
    )


def _truth(
    source: SourceSet,
    output: Path,
    targets: Sequence[Target],
    entries: Mapping[str, str | Poison],
    config: MethodConfig,
    attack: str,
    seed: int,
) -> Truth:
    poisoned = [
        PoisonedImage(
            name=name,
            target=poison.target.label,
            trigger=poison.target.index if poison.has_trigger else None,
            box=None if poison.box is None else TrueBox(**asdict(poison.box)),
            sources=list(poison.sources),
            added=poison.replaces is None,
        )
        for name, poison in entries.items()
        if isinstance(poison, Poison)
    ]
    return Truth(
        set=output.name,
        attack=attack,
        config=config.model_dump(mode="json"),
        seed=seed,
        images=len(entries),
        image_size=source.usual_size,
        targets=[TrueTarget(target=t.label, trigger=t.trigger.settings(), file=trigger_file(t.index)) for t in targets],
        poisoned=poisoned,
        renamed=renamed(source, entries),
        skipped=[Skipped(name=image.name, reason=image.reason) for image in source.skipped],
    )


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    image.save(buffer, format="PNG", compress_level=6)
    return buffer.getvalue()
