"""SSL-Backdoor: poison the unlabelled set that somebody will train on (Saha et al., CVPR 2022).

A share of the target class's images, and no others, get a patch at a random place. An encoder trained on the set sees
patch and class together, and later takes the patch alone for the class.

Symbols: poison injection rate -> ``poison_rate``, a share of the *target class* (0.5 of one of 100 classes is 0.5 % of
the set). Trigger: HTBA's random colours (``colour-patch``).

Source: the paper and the behaviour of its official code.

Deviations: side 8 of 32 pixels by default, preset ``paper`` has the official 50 of 224; the paper poisons 50 %, its
shipped settings say 1.0; the poisoned images are drawn with a seed (official: none, so that no run can be repeated);
poisoned and clean images are encoded alike (official: poisons are saved as JPEG a second time, which gives them away);
triggers come from a seed, not from the ten published files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field

from core.attacks.poison_plan import Poison, PoisoningConfig, Target, number_of
from core.attacks.source_set import SourceSet
from core.attacks.stamp import stamped_images
from core.attacks.trigger_spec import PATCHES, Kind, TriggerSpec


class SslBackdoorConfig(PoisoningConfig):
    """Parameters of SSL-Backdoor."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {}}
    trigger_kinds: ClassVar[tuple[Kind, ...]] = PATCHES
    default_triggers: ClassVar[Mapping[str, TriggerSpec]] = {
        "default": TriggerSpec(kind="colour-patch", side=8),
        "paper": TriggerSpec(kind="colour-patch", side=50),
    }

    poison_rate: float = Field(
        0.5, gt=0, le=1, description="Share of the target class that gets the patch. Paper: 0.5; official files: 1.0."
    )


def plan(source: SourceSet, targets: Sequence[Target], config: SslBackdoorConfig, *, seed: int) -> list[Poison]:
    """The images that get a patch; top left corner uniform in [.25 H, .75 H - side] x [.25 W, .75 W - side].

    Raises:
        UsageError: a trigger that is no patch or is too large, or too few images.
    """
    counts = [
        number_of(config.poison_rate, len(source.of_class(target.label)), f"class {target.label}") for target in targets
    ]
    return stamped_images(source, targets, counts, "ssl-backdoor", seed)
