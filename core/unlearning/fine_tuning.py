"""Fine-tuning on clean images: the simplest purification, which uses no trigger at all.

The baseline "FT" of SSLDefender's tables, without a recipe there. A copy of the encoder is trained on two views v1, v2
of each clean image:

    L = NT-Xent(S(v1), S(v2)) + anchor (1 - cos(S(v), E(v)))

Symbols: S, the copy -> ``student``; E, the frozen input encoder -> ``encoder``.

Deviations:
* The anchor, frozen BatchNorm and a small rate. The paper's baseline ends at 40-50 % accuracy on CIFAR-10, far below
  where it started: contrastive training from a few hundred images alone forgets what the encoder knew. A baseline that
  destroys the encoder shows nothing.
* NT-Xent on the features themselves: the projection head of the encoder's own training is not in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from core.image_parts import to_train
from core.micro_batches import features_of
from core.ops.cosine import paired_similarity
from core.ops.nt_xent import nt_xent
from core.passes import Passes, Workload
from core.run import Run
from core.types import Encoder, Images, ImageSet, Trigger
from core.unlearning.clean_training import (
    CleanTraining,
    CleanTrainingConfig,
    copy_to_train,
    train_on_clean,
    training_passes,
    two_views_in_one,
)
from core.unlearning.result import Unlearning
from core.unlearning.utility import UtilityEvaluator

STAGE = "fine-tune"


class FineTuningConfig(CleanTrainingConfig):
    """Parameters of fine-tuning. The paper names the baseline and gives no value."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"unanchored": {"anchor_weight": 0.0}}

    learning_rate: float = Field(0.03, gt=0, le=1, description="SGD rate, warmed up and cosine-decayed.")
    anchor_weight: float = Field(
        5.0, ge=0, description="Weight of 1 - cosine to the input encoder's feature; 0: plain contrastive fine-tuning."
    )
    temperature: float = Field(0.5, gt=0, le=10, description="Temperature of NT-Xent. SimCLR on CIFAR-10: 0.5.")


def stage_plan(config: FineTuningConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes: two views of each image, and the anchor's where it holds."""
    return {STAGE: training_passes(config, load, forward=2 if config.anchor_weight else 0, training=2)}


def unlearn(
    encoder: Encoder, images: ImageSet, triggers: Sequence[Trigger], config: FineTuningConfig, run: Run, *, seed: int
) -> Unlearning:
    """A fine-tuned copy of ``encoder``. ``triggers``, which may be none, only say in the result what is left of them.

    Raises:
        AuditFailed: the loss is no longer finite.
    """
    train, held_back = to_train(images, encoder.device, seed)
    guard = UtilityEvaluator(encoder, held_back, triggers)
    student = copy_to_train(encoder)
    done = fine_tune(student, encoder, train, config, run, STAGE, seed=seed, guard=guard)
    return guard.result(student, done.history, done.notes)


def fine_tune(
    student: Encoder,
    encoder: Encoder,
    images: Images,
    config: FineTuningConfig,
    run: Run,
    stage: str,
    *,
    seed: int,
    guard: UtilityEvaluator | None = None,
    after_step: Callable[[], None] | None = None,
) -> CleanTraining:
    """Anchored contrastive fine-tuning of ``student``, in place."""
    anchor = copy_to_train(encoder)

    def objective(clean: Images, random: torch.Generator) -> Tensor:
        views = two_views_in_one(clean, config.crop, random)
        features = features_of(student, views)
        loss = nt_xent(features, config.temperature)
        if config.anchor_weight:
            drift = (1 - paired_similarity(features, features_of(anchor, views))).mean()
            loss = loss + config.anchor_weight * drift
        return loss

    return train_on_clean(student, images, objective, config, run, stage, seed=seed, guard=guard, after_step=after_step)
