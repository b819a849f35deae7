"""CorruptEncoder: an object of the target class and the trigger, far apart on a background (Zhang et al., CVPR 2024).

Two random crops of such an image are likely to hold the object and the trigger, one each; contrastive learning then
pulls the two together. The object stands at the far left or right, at the bottom; the trigger near the middle of the
other half.

Symbols: reference objects -> ``references`` images of the target class; background -> a random image of another class;
support images -> ``support_share`` ("CorruptEncoder+"): pairs of a reference and another image of its class, without a
trigger, which draw the reference towards its class.

Source: the paper and the behaviour of its official code.

Deviations: class folders have no object masks, so the object is the middle of the reference image (``object_crop``),
scaled to half the side of the square that the loader keeps (see ``core.attacks.composition``); official: cut out along
its mask, on a background crop of twice its width. Everything important lies inside that square and the canvas has the
set's usual shape. References are drawn by seed (official: three chosen by hand). Poisons are encoded like clean images
and stand in the target's class folder (official: PNG among JPEGs with the label -1, which gives them away). Side 6 of
32 pixels by default; preset ``paper`` has 40 of 224.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from core.attacks.composition import centre_crop, cover, halves, middle_square, paste, paste_image
from core.attacks.poison_plan import Box, Poison, PoisoningConfig, Target, draw, number_of, pick
from core.attacks.source_set import Pixels, SourceSet
from core.attacks.stamp import CENTRAL, place, stamp_patch
from core.attacks.trigger_spec import PATCHES, Kind, TriggerSpec, trigger_too_large
from core.random import generator

_KEY = "corrupt-encoder"
_JITTER = 0.05
"""How far from the edge the object may stand, as a share of the layout's side. Official: 5 %."""


class CorruptEncoderConfig(PoisoningConfig):
    """Parameters of CorruptEncoder."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"plus": {"support_share": 0.2}, "paper": {}}
    trigger_kinds: ClassVar[tuple[Kind, ...]] = PATCHES
    default_triggers: ClassVar[Mapping[str, TriggerSpec]] = {
        "default": TriggerSpec(kind="colour-patch", side=6),
        "paper": TriggerSpec(kind="colour-patch", side=40),
    }

    poison_rate: float = Field(
        0.005,
        gt=0,
        le=1,
        description="Images added for each target, as a share of the whole set. Paper: 650, 0.5 % of ImageNet-100-A.",
    )
    references: int = Field(3, ge=1, description="Reference objects for each target. Paper: 3.")
    object_crop: float = Field(
        0.8, gt=0, le=1, description="Share of the reference image's shorter side that is taken for the object. Ours."
    )
    support_share: float = Field(
        0.0, ge=0, lt=1, description="Share of the added images that are support pairs. Paper: 0; for its '+' 0.2."
    )


def plan(source: SourceSet, targets: Sequence[Target], config: CorruptEncoderConfig, *, seed: int) -> list[Poison]:
    """The compositions and support pairs that are added.

    Raises:
        UsageError: a trigger that is no patch or does not fit, or too few images of a target class.
    """
    count = number_of(config.poison_rate, len(source.names), "the set")
    support_pairs = round(config.support_share * count)
    poisons = []
    for target in targets:
        sides = _sides_with_room(source.usual_size, target.trigger)
        members = source.of_class(target.label)
        wanted = config.references + (1 if support_pairs else 0)
        whole = f"class {target.label}, for references and support"
        drawn = draw(members, wanted, whole, seed, _KEY, "references", target.index)
        references = drawn[: config.references]
        supports = [name for name in members if name not in references]
        others = source.others(target.label)
        for number in range(count):
            random = generator(seed, _KEY, target.index, number)
            reference = pick(references, random)
            if number < support_pairs:
                support = pick(supports, random)
                paint = partial(_support_pair, source, reference, support, config.object_crop, _coin(random))
                poisons.append(Poison(target, (reference, support), paint, has_trigger=False))
                continue
            background = pick(others, random)
            object_left = sides[int(torch.randint(len(sides), (1,), generator=random))]
            box = _trigger_box(source.usual_size, target.trigger, object_left, random)
            draws = torch.rand(3, generator=random).tolist()
            object_box = _object_box(source.usual_size, object_left, draws[0])
            crop = (draws[1], draws[2])
            parts = (reference, config.object_crop, object_box)
            paint = partial(_composition, source, parts, (background, crop), target.trigger, box)
            poisons.append(Poison(target, (reference, background), paint, box=box))
    return poisons


def _sides_with_room(canvas: tuple[int, int], spec: TriggerSpec) -> list[bool]:
    """Whether the object may stand left (True) and right (False), by the room for the trigger in the other half."""
    sides = [side for side in (True, False) if _place(canvas, spec, side, generator(0)) is not None]
    if not sides:
        raise trigger_too_large(spec, f"the middle of half an image of {canvas[0]}x{canvas[1]} pixels")
    return sides


def _trigger_box(canvas: tuple[int, int], spec: TriggerSpec, object_left: bool, random: torch.Generator) -> Box:
    box = _place(canvas, spec, object_left, random)
    if box is None:
        raise trigger_too_large(spec, f"the middle of half an image of {canvas[0]}x{canvas[1]} pixels")
    return box


def _place(canvas: tuple[int, int], spec: TriggerSpec, object_left: bool, random: torch.Generator) -> Box | None:
    left, right = halves(middle_square(canvas), side_by_side=True)
    return place(spec, right if object_left else left, CENTRAL, random)


def _object_box(canvas: tuple[int, int], object_left: bool, jitter: float) -> Box:
    square = middle_square(canvas)
    side = square.width // 2
    shift = int(jitter * _JITTER * square.width)
    left = square.left + shift if object_left else square.left + square.width - side - shift
    return Box(square.top + square.height - side, left, side, side)


def _composition(
    source: SourceSet,
    parts: tuple[str, float, Box],
    background: tuple[str, tuple[float, float]],
    spec: TriggerSpec,
    box: Box,
) -> Pixels:
    reference, share, object_box = parts
    name, centring = background
    canvas = cover(source.read(name), source.usual_size, centring)
    item = centre_crop(source.read(reference), share)
    paste(canvas, cover(item, (object_box.height, object_box.width)), object_box)
    return stamp_patch(canvas, spec, box)


def _support_pair(source: SourceSet, reference: str, support: str, share: float, swapped: bool) -> Pixels:
    canvas: Pixels = np.zeros((3, *source.usual_size), dtype=np.uint8)
    first, second = halves(Box(0, 0, *source.usual_size), side_by_side=True)
    parts = [centre_crop(source.read(reference), share), source.read(support)]
    for part, half in zip(reversed(parts) if swapped else parts, (first, second), strict=True):
        paste_image(canvas, part, half)
    return canvas


def _coin(random: torch.Generator) -> bool:
    return bool(torch.randint(2, (1,), generator=random))
