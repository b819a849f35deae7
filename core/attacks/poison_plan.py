"""What an attack decides before any pixel is painted: which images, by which trigger, from which others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch

from core.attacks.source_set import Pixels, SourceSet
from core.attacks.trigger_spec import Kind, TriggerSpec
from core.config import MethodConfig
from core.errors import UsageError
from core.random import generator

_SHOWN_CLASSES = 50


class PoisoningConfig(MethodConfig):
    """Base of every poisoning attack's parameters. ``presets``: name -> values that differ from the defaults;
    ``default_triggers``: preset -> the trigger where none is named, always with ``default``; ``trigger_kinds``: those
    that the attack can use."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    default_triggers: ClassVar[Mapping[str, TriggerSpec]]
    trigger_kinds: ClassVar[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels; ``top`` and ``left`` count from 0."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Target:
    """The class ``label`` that images with ``trigger`` shall be taken for; ``index`` counts the targets from 0."""

    index: int
    label: str
    trigger: TriggerSpec


@dataclass(frozen=True)
class Poison:
    """One poisoned image.

    ``paint`` makes it. ``sources`` are the images of the source set it is made from. ``replaces`` is the one of them
    in whose place it is written; None: it is added to the folder of its target class. ``box`` is where the trigger
    stands, None for the whole image; ``has_trigger`` is false for an image that only helps the attack.
    """

    target: Target
    sources: tuple[str, ...]
    paint: Callable[[], Pixels]
    replaces: str | None = None
    box: Box | None = None
    has_trigger: bool = True


def number_of(rate: float, total: int, whole: str) -> int:
    """``rate`` of ``total`` images, rounded; ``whole`` says of what.

    Raises:
        UsageError: that is not even one image.
    """
    count = math.floor(rate * total + 0.5)
    if count:
        return count
    raise UsageError(
        "nothing_to_poison",
        field="poison_rate",
        found=f"{rate:g} of the {total} images of {whole}, which is less than half an image",
        expected="a rate that makes at least one poisoned image",
        action="Raise it, as in --set poison_rate=0.5, or give a larger set.",
    )


def draw_disjoint(
    source: SourceSet,
    targets: Sequence[Target],
    counts: Sequence[int],
    usable: Callable[[str, Target], bool],
    seed: int,
) -> list[list[str]]:
    """For each target ``counts`` random images of its class, in the order of their names; no image is drawn twice.

    Raises:
        UsageError: ``too_few_images`` when a class has fewer usable ones left.
    """
    taken: set[str] = set()
    drawn = []
    for target, count in zip(targets, counts, strict=True):
        free = [name for name in source.of_class(target.label) if name not in taken and usable(name, target)]
        chosen = draw(free, count, f"class {target.label} that can carry the trigger", seed, "draw", target.index)
        taken.update(chosen)
        drawn.append(chosen)
    return drawn


def draw(names: Sequence[str], count: int, whole: str, seed: int, *keys: str | int) -> list[str]:
    """``count`` different ones of ``names`` at random, in their order; ``whole`` says what they are.

    Raises:
        UsageError: ``too_few_images``.
    """
    if count > len(names):
        raise UsageError(
            "too_few_images",
            field="images",
            found=f"{len(names)} images of {whole}",
            expected=f"at least {count}",
            action="Lower the rate or the number, make the trigger smaller, or give more images of that class.",
        )
    order = torch.randperm(len(names), generator=generator(seed, *keys))[:count]
    return [names[i] for i in sorted(order.tolist())]


def pick(names: Sequence[str], random: torch.Generator) -> str:
    """One of ``names``."""
    return names[int(torch.randint(len(names), (1,), generator=random))]


def find_targets(source: SourceSet, targets: Sequence[tuple[str, TriggerSpec]]) -> list[Target]:
    """``targets``, numbered, after a look at the classes they name.

    Raises:
        UsageError: no target, a class that does not exist, or one trigger for two targets.
    """
    classes = source.classes
    shown = ", ".join(classes[:_SHOWN_CLASSES]) + (", ..." if len(classes) > _SHOWN_CLASSES else "")
    if not targets:
        raise UsageError(
            "no_target", field="target", found="no target class", expected=f"one of {shown}", action="Name a class."
        )
    for label, _ in targets:
        if label not in classes:
            raise UsageError(
                "unknown_target",
                field="target",
                found=f"'{label}'",
                expected=f"one of the {len(classes)} classes: {shown}",
                action="Name the class by its folder.",
            )
    patterns = [spec.model_copy(update={"top": None, "left": None}) for _, spec in targets]
    if len(set(patterns)) != len(patterns):
        raise UsageError(
            "same_trigger",
            field="trigger",
            found="the same trigger for two targets",
            expected="a trigger of its own for each",
            action="Give one of them another kind or another seed, as in --trigger colour-patch:seed=1.",
        )
    return [Target(index, label, spec) for index, (label, spec) in enumerate(targets)]


def require_kind(triggers: Iterable[TriggerSpec], kinds: Sequence[Kind], attack: str) -> None:
    """Refuse triggers that ``attack`` cannot use.

    Raises:
        UsageError: a trigger that is not of one of ``kinds``.
    """
    for spec in triggers:
        if spec.kind not in kinds:
            raise UsageError(
                "wrong_trigger_kind",
                field="trigger",
                found=f"the trigger {spec.kind}",
                expected=f"one that {attack} can use: {', '.join(kinds)}",
                action="Choose one of these, or another attack.",
            )
