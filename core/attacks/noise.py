"""Random noise as a trigger, one of those that SSLDefender is tested with.

Images of the target class get one fixed random pattern: over the whole image, or as a patch.

Source: SSLDefender's evaluation, which names the trigger and does not define it. The readings are ours: ``noise`` adds
or subtracts a fixed number of grey levels at every pixel, ``noise-patch`` is a square of random pixels, ``blended``
mixes random colours into the whole image.

Deviations: nothing to deviate from but the name; the choice of images follows SSL-Backdoor (a share of the target
class, a patch inside the central half). In a set of images of several sizes a whole-image pattern is drawn at the
commonest size and scaled to the others, so that there is one pattern.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from core.attacks.poison_plan import Poison, PoisoningConfig, Target, number_of
from core.attacks.source_set import SourceSet
from core.attacks.stamp import stamped_images
from core.attacks.trigger_spec import Kind, TriggerSpec


class NoiseConfig(PoisoningConfig):
    """Parameters of the random-noise attack."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"strong": {}, "patch": {}}
    trigger_kinds: ClassVar[tuple[Kind, ...]] = ("noise", "noise-patch", "blended")
    default_triggers: ClassVar[Mapping[str, TriggerSpec]] = {
        "default": TriggerSpec(kind="noise", grey_levels=8),
        "strong": TriggerSpec(kind="noise", grey_levels=16),
        "patch": TriggerSpec(kind="noise-patch", side=8),
    }

    poison_rate: float = Field(
        0.5, gt=0, le=1, description="Share of the target class that gets the noise. The paper gives none."
    )


def plan(source: SourceSet, targets: Sequence[Target], config: NoiseConfig, *, seed: int) -> list[Poison]:
    """The images of the target classes that get the noise.

    Raises:
        UsageError: a trigger that is no noise or is too large, or too few images.
    """
    counts = [
        number_of(config.poison_rate, len(source.of_class(target.label)), f"class {target.label}") for target in targets
    ]
    return stamped_images(source, targets, counts, "noise", seed)
