"""CTRL: a spectral trigger, invisible and spread over the whole image (Li et al., ICCV 2023).

Images of the target class get a fixed change of two frequencies of their chroma, which survives the augmentations of
contrastive learning. An encoder trained on the set ties the frequencies to the class.

Symbols: poisoning rate -> ``poison_rate``, a share of the *whole set*, all taken from the target class; magnitude ->
``magnitude`` of the trigger. How the trigger is made: ``core.attacks.trigger_patterns.spectral``.

Source: the behaviour of the official code and its README.

Deviations: the images are drawn at random from the target class (official: the first ones of the data set's order,
despite the function's name); the trigger is added in RGB, which is the same by linearity, and rounded to 8 bits in a
PNG. Blocks are 32x32 pixels of the stored image, from its upper left corner: poison a set that has the encoder's input
size already, since a set that is scaled when it is loaded no longer has these frequencies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from core.attacks.poison_plan import Poison, PoisoningConfig, Target, number_of
from core.attacks.source_set import SourceSet
from core.attacks.stamp import stamped_images
from core.attacks.trigger_spec import Kind, TriggerSpec


class CtrlConfig(PoisoningConfig):
    """Parameters of CTRL."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}}
    trigger_kinds: ClassVar[tuple[Kind, ...]] = ("spectral",)
    default_triggers: ClassVar[Mapping[str, TriggerSpec]] = {
        "default": TriggerSpec(kind="spectral", magnitude=100),
        "paper": TriggerSpec(kind="spectral", magnitude=50),
    }

    poison_rate: float = Field(
        0.01, gt=0, le=1, description="Share of the whole set, for each target, taken from its class. Paper: 0.01."
    )


def plan(source: SourceSet, targets: Sequence[Target], config: CtrlConfig, *, seed: int) -> list[Poison]:
    """The images of the target classes that get the spectral trigger.

    Raises:
        UsageError: too few images in a target class.
    """
    counts = [number_of(config.poison_rate, len(source.names), "the set")] * len(targets)
    return stamped_images(source, targets, counts, "ctrl", seed)
