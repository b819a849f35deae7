"""Self-supervised knowledge distillation from a fine-tuned teacher, with clean images only.

After SSL-KD (Bie et al.), the distillation that SSLDefender compares with. A student, which begins as the suspect
encoder, learns the teacher's features with a contrastive and a non-contrastive term:

    L = c NT-Xent(S(v1), T(v2)) + n (1 - cos(S(v), T(v)))

Symbols: S -> ``student``; T, a copy fine-tuned on the clean images -> ``teacher``; c -> ``contrastive_weight``; n ->
``cosine_weight``. The first term is taken over both orders of the views.

Deviations: no code is published; the form of both terms and all numbers are ours.
* The clean images take the place of the downstream data set.
* The teacher is fine-tuned as in ``fine_tuning`` (contrastive, anchored, frozen BatchNorm).
* The student keeps the suspect's weights: a new network cannot be trained from a few hundred images.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from core.unlearning.clean_training import copy_to_train, train_on_clean, training_passes, two_views_in_one
from core.unlearning.result import Unlearning
from core.unlearning.taught import TaughtConfig, taught_teacher, teacher_plan
from core.unlearning.utility import UtilityEvaluator

STAGE = "distil"


class SslKdConfig(TaughtConfig):
    """Parameters of SSL-KD. No code is published to take values from."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    learning_rate: float = Field(0.01, gt=0, le=1, description="SGD rate, warmed up and cosine-decayed.")
    teacher_learning_rate: float = Field(0.01, gt=0, le=1, description="SGD rate of the teacher's fine-tuning.")
    contrastive_weight: float = Field(
        1.0, ge=0, description="c, weight of NT-Xent between the student's and the teacher's views. No value published."
    )
    cosine_weight: float = Field(
        5.0, ge=0, description="n, weight of 1 - cosine to the teacher's feature of the same view. No value published."
    )


def stage_plan(config: SslKdConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes."""
    return {**teacher_plan(config, load), STAGE: training_passes(config, load, forward=2, training=2)}


def unlearn(
    encoder: Encoder, images: ImageSet, triggers: Sequence[Trigger], config: SslKdConfig, run: Run, *, seed: int
) -> Unlearning:
    """A copy of ``encoder`` distilled from a fine-tuned teacher. ``triggers`` only say what is left of them.

    Raises:
        AuditFailed: the loss is no longer finite.
    """
    train, held_back = to_train(images, encoder.device, seed)
    guard = UtilityEvaluator(encoder, held_back, triggers)
    student = copy_to_train(encoder)
    teacher = taught_teacher(encoder, train, config, run, seed=seed)

    def objective(clean: Images, random: torch.Generator) -> Tensor:
        views = two_views_in_one(clean, config.crop, random)
        features, targets = features_of(student, views), features_of(teacher, views)
        (own_1, own_2), (other_1, other_2) = features.chunk(2), targets.chunk(2)
        contrast = nt_xent(torch.cat([own_1, other_2]), config.temperature)
        contrast = contrast + nt_xent(torch.cat([own_2, other_1]), config.temperature)
        distance = (1 - paired_similarity(features, targets)).mean()
        return config.contrastive_weight * contrast / 2 + config.cosine_weight * distance

    done = train_on_clean(student, train, objective, config, run, STAGE, seed=seed, guard=guard)
    return guard.result(student, done.history, done.notes)
