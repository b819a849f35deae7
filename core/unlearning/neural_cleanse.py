"""Neural Cleanse's unlearning (Wang et al., S&P 2019, Sec. VI-C), for an encoder without labels.

There, a classifier is fine-tuned on clean images of which a fifth carry the recovered trigger and keep their labels. An
encoder has no labels; what a stamped image keeps here is its clean feature:

    L = mean_i (1 - cos(S(v_i'), E(v_i)))        v_i' = v_i, with the trigger for a share of the images

Symbols: S -> ``student``; E, the frozen input encoder -> ``encoder``; v, a view of a clean image; the share ->
``stamped``.

Deviations: the feature takes the label's place; BatchNorm is frozen and the rate small, as in all baselines here. What
distinguishes it from the default is left out on purpose: one trigger, the first patch that was recovered, where it was
recovered, drawn for all images alike; no target embedding, no second round.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from core.image_parts import to_train
from core.images.augment import random_flip, random_resized_crop
from core.micro_batches import features_of
from core.ops.cosine import paired_similarity
from core.passes import Passes, Workload
from core.run import Run
from core.triggers import MaskedTrigger
from core.types import Encoder, Images, ImageSet, Trigger
from core.unlearning.clean_training import (
    CleanTrainingConfig,
    copy_to_train,
    train_on_clean,
    training_passes,
)
from core.unlearning.result import Unlearning
from core.unlearning.stamping import require_triggers
from core.unlearning.utility import UtilityEvaluator

STAGE = "unlearn one trigger"


class NeuralCleanseConfig(CleanTrainingConfig):
    """Parameters of the unlearning; Neural Cleanse's value where it has one."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    learning_rate: float = Field(
        0.08, gt=0, le=1, description="SGD rate, warmed up and cosine-decayed. BackdoorBench: 0.01."
    )
    stamped: float = Field(
        0.5, gt=0, le=1, description="Share of a step's images that carry the trigger. Neural Cleanse: 0.2."
    )


def stage_plan(config: NeuralCleanseConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes."""
    return {STAGE: training_passes(config, load, forward=1, training=1)}


def unlearn(
    encoder: Encoder, images: ImageSet, triggers: Sequence[Trigger], config: NeuralCleanseConfig, run: Run, *, seed: int
) -> Unlearning:
    """A copy of ``encoder`` on which the first patch of ``triggers`` (without a patch, the first) no longer acts.

    Raises:
        UsageError: no triggers. AuditFailed: the loss is no longer finite.
    """
    require_triggers(triggers)
    trigger = next((one for one in triggers if isinstance(one, MaskedTrigger)), triggers[0])
    train, held_back = to_train(images, encoder.device, seed)
    guard = UtilityEvaluator(encoder, held_back, triggers)
    student, original = copy_to_train(encoder), copy_to_train(encoder)

    def objective(clean: Images, random: torch.Generator) -> Tensor:
        views = random_resized_crop(random_flip(clean, random), random, scale=(config.crop, 1.0))
        count = max(1, round(config.stamped * len(views)))
        given = torch.cat([trigger(views[:count]), views[count:]])
        with torch.no_grad():
            kept = features_of(original, views)
        return (1 - paired_similarity(features_of(student, given), kept)).mean()

    done = train_on_clean(student, train, objective, config, run, STAGE, seed=seed, guard=guard)
    return guard.result(student, done.history, done.notes)
