"""Unlearning random triggers: the control that shows whether recovery matters.

SSLDefender's unlearning (``ssldefender.unlearn``), all its parameters included, on opaque patches of random noise at
random places and on random full-image patterns, drawn from the seed, in place of the recovered triggers. What this
achieves comes from training against occlusion and noise as such.

Deviations: no recipe is published; kinds, number and sizes of the random triggers are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from core.image_parts import to_train
from core.random import generator
from core.run import Run
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.types import Encoder, ImageSet, Trigger
from core.unlearning import ssldefender
from core.unlearning.result import Unlearning
from core.unlearning.utility import UtilityEvaluator


class RandomTriggersConfig(ssldefender.UnlearningConfig):
    """Parameters of the unlearning, and of the triggers drawn for it."""

    patches: int = Field(8, ge=0, le=256, description="Opaque patches of uniform noise. No value is published.")
    patch_side: float = Field(
        0.2, gt=0, le=1, description="Side of a patch, as a share of the image's shorter side. No value is published."
    )
    patterns: int = Field(8, ge=1, le=256, description="Full-image patterns of noise. No value is published.")
    pattern_levels: float = Field(
        16.0, gt=0, le=255, description="Amplitude of a pattern, in grey levels of 255. No value is published."
    )


stage_plan = ssldefender.stage_plan


def unlearn(
    encoder: Encoder,
    images: ImageSet,
    triggers: Sequence[Trigger],
    config: RandomTriggersConfig,
    run: Run,
    *,
    seed: int,
) -> Unlearning:
    """A copy of ``encoder`` on which random triggers no longer act. ``triggers`` only say what is left of them.

    Raises:
        AuditFailed: the loss is no longer finite.
    """
    drawn = draw_triggers(encoder.image_size, config, seed)
    done = ssldefender.unlearn(encoder, images, drawn, config, run, seed=seed)
    _, held_back = to_train(images, encoder.device, seed)
    return UtilityEvaluator(encoder, held_back, triggers).result(done.student, done.history, done.notes)


def draw_triggers(
    image_size: tuple[int, int], config: RandomTriggersConfig, seed: int
) -> list[MaskedTrigger | AdditiveTrigger]:
    """The patches, then the patterns, for images of ``image_size`` (height, width)."""
    height, width = image_size
    side = max(1, round(config.patch_side * min(height, width)))
    random = generator(seed, "random triggers")
    drawn: list[MaskedTrigger | AdditiveTrigger] = []
    for _ in range(config.patches):
        top = int(torch.randint(height - side + 1, (), generator=random))
        left = int(torch.randint(width - side + 1, (), generator=random))
        mask = torch.zeros(1, height, width)
        mask[:, top : top + side, left : left + side] = 1
        drawn.append(MaskedTrigger(mask, torch.rand(3, height, width, generator=random) * mask))
    for _ in range(config.patterns):
        noise = 2 * torch.rand(3, height, width, generator=random) - 1
        drawn.append(AdditiveTrigger(noise * config.pattern_levels / 255))
    return drawn
