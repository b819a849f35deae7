"""A backdoor adaptation of PoisonedEncoder (Liu, Jia and Gong, USENIX Security 2022).

The paper poisons without any trigger: a clean input that the attacker chose is put beside an image of the class he
wants it taken for, so that two crops of the pair meet in contrastive learning. SSLDefender and CorruptEncoder compare
with a *backdoor* made of it, and so is this one: an image of the target class beside an image of another class that
carries the trigger, left and right or above and below, in either order.

Symbols: poisoning rate -> ``poison_rate``, a share of the *whole set*; reference inputs -> ``references`` images of the
target class.

Source: the paper's abstract and the adaptation as those two papers describe it; there is no official code.

Deviations: the adaptation itself. The pair is put on a canvas of the set's usual shape instead of one twice as wide
(see ``core.attacks.composition``), each part scaled to cover its half. A patch stands anywhere in the triggered half,
as far as a square crop of the image shows it; a whole-image trigger is that of the whole canvas, and only the triggered
half of it is there. Poisoned images are added to the folder of the target class; nothing is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from core.attacks.composition import halves, middle_square, overlap, paste, paste_image
from core.attacks.poison_plan import Box, Poison, PoisoningConfig, Target, draw, number_of, pick
from core.attacks.source_set import Pixels, SourceSet
from core.attacks.stamp import place, stamp_patch, stamp_whole, whole_image_trigger
from core.attacks.trigger_spec import TriggerSpec, trigger_too_large
from core.random import generator

_KEY = "poisoned-encoder"


class PoisonedEncoderConfig(PoisoningConfig):
    """Parameters of the backdoor adaptation of PoisonedEncoder."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    default_triggers: ClassVar[Mapping[str, TriggerSpec]] = {"default": TriggerSpec(kind="colour-patch", side=8)}

    poison_rate: float = Field(
        0.01, gt=0, le=1, description="Images added for each target, as a share of the whole set. Paper: about 0.01."
    )
    references: int = Field(10, ge=1, description="Different images of the target class that are used. Ours.")
    arrangement: Literal["any", "left-right", "top-bottom"] = Field(
        "any", description="How the two parts lie. Paper: both ways."
    )


def plan(source: SourceSet, targets: Sequence[Target], config: PoisonedEncoderConfig, *, seed: int) -> list[Poison]:
    """The pairs that are added.

    Raises:
        UsageError: a patch that does not fit into half an image, or fewer images of a target class than references.
    """
    count = number_of(config.poison_rate, len(source.names), "the set")
    poisons = []
    for target in targets:
        layouts = _layouts(source.usual_size, target.trigger, config)
        whole = f"class {target.label}, for the references"
        references = draw(
            source.of_class(target.label), config.references, whole, seed, _KEY, "references", target.index
        )
        others = source.others(target.label)
        for number in range(count):
            random = generator(seed, _KEY, target.index, number)
            reference, carrier = pick(references, random), pick(others, random)
            kept, triggered = layouts[int(torch.randint(len(layouts), (1,), generator=random))]
            box = _box(source.usual_size, triggered, target.trigger, random)
            paint = partial(_pair, source, (reference, kept), (carrier, triggered), target.trigger, box)
            poisons.append(Poison(target, (reference, carrier), paint, box=box))
    return poisons


def _layouts(canvas: tuple[int, int], spec: TriggerSpec, config: PoisonedEncoderConfig) -> list[tuple[Box, Box]]:
    """Every (reference half, triggered half) that has room for the trigger."""
    whole = Box(0, 0, *canvas)
    pairs = []
    if config.arrangement != "top-bottom":
        pairs.append(halves(whole, side_by_side=True))
    if config.arrangement != "left-right":
        pairs.append(halves(whole, side_by_side=False))
    both_orders = [order for one, other in pairs for order in ((one, other), (other, one))]
    random = generator(0)
    fitting = [(kept, half) for kept, half in both_orders if _place(canvas, half, spec, random) is not None]
    if not fitting:
        raise trigger_too_large(spec, _room(canvas))
    return fitting


def _box(canvas: tuple[int, int], half: Box, spec: TriggerSpec, random: torch.Generator) -> Box:
    box = _place(canvas, half, spec, random)
    if box is None:
        raise trigger_too_large(spec, _room(canvas))
    return box


def _room(canvas: tuple[int, int]) -> str:
    return f"what a square crop shows of half an image of {canvas[0]}x{canvas[1]} pixels"


def _place(canvas: tuple[int, int], half: Box, spec: TriggerSpec, random: torch.Generator) -> Box | None:
    if not spec.is_patch:
        return half
    return place(spec, overlap(half, middle_square(canvas)), 0.0, random)


def _pair(
    source: SourceSet, reference: tuple[str, Box], carrier: tuple[str, Box], spec: TriggerSpec, box: Box
) -> Pixels:
    canvas: Pixels = np.zeros((3, *source.usual_size), dtype=np.uint8)
    for name, half in (reference, carrier):
        paste_image(canvas, source.read(name), half)
    if spec.is_patch:
        return stamp_patch(canvas, spec, box)
    changed = stamp_whole(canvas, whole_image_trigger(spec, source.usual_size, source.usual_size))
    paste(canvas, changed[:, box.top : box.top + box.height, box.left : box.left + box.width], box)
    return canvas
