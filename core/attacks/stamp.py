"""Putting a trigger on one stored image: uint8 in, uint8 out, rounded as every image that reaches a victim has been."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from core.attacks.poison_plan import Box, Poison, Target, draw_disjoint
from core.attacks.source_set import Pixels, SourceSet
from core.attacks.trigger_spec import TriggerSpec, build_trigger, patch_pattern, trigger_too_large
from core.random import generator
from core.triggers import AdditiveTrigger, BlendedTrigger, MaskedTrigger
from core.triggers.stored import as_stored

CENTRAL = 0.25
"""SSL-Backdoor's margin: a patch lies inside the central half of rows and of columns."""


def stamp_patch(pixels: Pixels, spec: TriggerSpec, box: Box) -> Pixels:
    """``pixels`` with the patch of ``spec`` at ``box``; every other pixel is as it was."""
    stamped = pixels.copy()
    pattern = as_bytes(patch_pattern(spec))
    stamped[:, box.top : box.top + box.height, box.left : box.left + box.width] = pattern
    return stamped


def stamp_whole(pixels: Pixels, trigger: MaskedTrigger | AdditiveTrigger | BlendedTrigger) -> Pixels:
    """``pixels`` under a ``trigger`` of the same size."""
    image = torch.from_numpy(pixels.copy()).float().div(255)[None]
    return as_bytes(as_stored(trigger(image))[0])


def whole_image_trigger(
    spec: TriggerSpec, image_size: tuple[int, int], usual_size: tuple[int, int]
) -> MaskedTrigger | AdditiveTrigger | BlendedTrigger:
    """The trigger of ``spec`` for an image of ``image_size`` in a set whose images are mostly of ``usual_size``.

    A random pattern would be another one at every size, and so no trigger at all: it is drawn at the usual size and
    enlarged or shrunk (nearest pixel, which keeps its grey levels). The spectral one repeats in blocks of fixed size.
    """
    trigger = build_trigger(spec, image_size if spec.kind == "spectral" else usual_size)
    if isinstance(trigger, AdditiveTrigger):
        return AdditiveTrigger(_resized(trigger.delta, image_size))
    if isinstance(trigger, BlendedTrigger):
        return BlendedTrigger(trigger.alpha, _resized(trigger.pattern, image_size))
    return trigger


def place(spec: TriggerSpec, region: Box, margin: float, random: torch.Generator) -> Box | None:
    """Where the patch goes inside ``region``, ``margin`` of whose extent is kept free on every side; None: no room.

    A patch with a place of its own goes there, if it lies inside ``region``, margin or not.
    """
    if spec.top is not None and spec.left is not None:
        inside = (
            region.top <= spec.top <= region.top + region.height - spec.side
            and region.left <= spec.left <= region.left + region.width - spec.side
        )
        return Box(spec.top, spec.left, spec.side, spec.side) if inside else None
    corner = []
    for start, extent in ((region.top, region.height), (region.left, region.width)):
        low, high = int(margin * extent), int((1 - margin) * extent) - spec.side
        if low > high:
            return None
        corner.append(start + int(torch.randint(low, high + 1, (1,), generator=random)))
    return Box(corner[0], corner[1], spec.side, spec.side)


def stamped_images(
    source: SourceSet, targets: Sequence[Target], counts: Sequence[int], attack: str, seed: int
) -> list[Poison]:
    """``counts`` images of each target's class with its trigger: a patch at a random place of their central half, any
    other trigger over the whole image.

    Raises:
        UsageError: ``trigger_too_large`` for the usual image, or ``too_few_images``.
    """

    def where(name: str, target: Target) -> Box | None:
        random = generator(seed, attack, "place", target.index, name)
        return place(target.trigger, _whole(source.size_of[name]), CENTRAL, random)

    def usable(name: str, target: Target) -> bool:
        return not target.trigger.is_patch or where(name, target) is not None

    for target in targets:
        require_room(target.trigger, source.usual_size)
    poisons = []
    for target, names in zip(targets, draw_disjoint(source, targets, counts, usable, seed), strict=True):
        for name in names:
            box = where(name, target) if target.trigger.is_patch else None
            paint = partial(_stamped, source, name, target.trigger, box)
            poisons.append(Poison(target, (name,), paint, replaces=name, box=box))
    return poisons


def require_room(spec: TriggerSpec, image_size: tuple[int, int]) -> None:
    """Refuse a patch that has no place in the central half of images of ``image_size``, or at the place it names.

    Raises:
        UsageError: ``trigger_too_large``.
    """
    if spec.is_patch and place(spec, _whole(image_size), CENTRAL, generator(0)) is None:
        half = "" if spec.top is not None else "the central half of "
        raise trigger_too_large(spec, f"{half}images of {image_size[0]}x{image_size[1]} pixels")


def as_bytes(image: Tensor) -> Pixels:
    """``image`` ``[3, H, W]`` in [0, 1] as 8 bits."""
    stored: Pixels = image.mul(255).round().numpy().astype(np.uint8)
    return stored


def _stamped(source: SourceSet, name: str, spec: TriggerSpec, box: Box | None) -> Pixels:
    pixels = source.read(name)
    if box is not None:
        return stamp_patch(pixels, spec, box)
    return stamp_whole(pixels, whole_image_trigger(spec, source.size_of[name], source.usual_size))


def _whole(image_size: tuple[int, int]) -> Box:
    return Box(0, 0, *image_size)


def _resized(pattern: Tensor, image_size: tuple[int, int]) -> Tensor:
    return functional.interpolate(pattern[None], size=image_size, mode="nearest-exact")[0]
