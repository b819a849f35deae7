"""Neural attention distillation (Li et al., ICLR 2021), without labels.

A teacher is fine-tuned from the suspect encoder on clean images; the suspect itself, as the student, is then trained to
look where the teacher looks:

    L = sum_l beta_l MSE(A_l(S(v)), A_l(T(v))) + gamma (1 - cos(S(v), T(v)))

Symbols: S -> ``student``; T -> ``teacher``; A_l, the attention of stage l -> ``attention.attention``; beta_l ->
``attention_weights``; v -> a view of a clean image.

Deviations:
* The paper's second term is the cross-entropy of clean labels. There are none: the feature's cosine to the teacher's
  takes its place, and the teacher's own fine-tuning is contrastive and anchored (``fine_tuning``).
* The stages are the last three resolutions of any convolutional network, found by a forward pass, not three named
  groups of a WideResNet.
* A small rate throughout; the official code begins with .1. Views are crops with mirror and colours, without Cutout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor
from torch.nn.functional import mse_loss

from core.image_parts import to_train
from core.micro_batches import in_parts, one_pass
from core.ops.cosine import paired_similarity
from core.passes import Passes, Workload
from core.run import Run
from core.types import Encoder, Images, ImageSet, Trigger
from core.unlearning.attention import attention
from core.unlearning.clean_training import copy_to_train, train_on_clean, training_passes, two_views_in_one
from core.unlearning.result import Unlearning
from core.unlearning.stages import captured, last_resolutions
from core.unlearning.taught import TaughtConfig, taught_teacher, teacher_plan
from core.unlearning.utility import UtilityEvaluator

STAGE = "distil attention"


class NadConfig(TaughtConfig):
    """Parameters of NAD; the official code's value where it has one."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {"official": {"batch_size": 64, "learning_rate": 0.1}}

    learning_rate: float = Field(
        0.003, gt=0, le=1, description="SGD rate, warmed up and cosine-decayed. NAD: 0.1, then 0.01."
    )
    teacher_learning_rate: float = Field(0.01, gt=0, le=1, description="SGD rate of the teacher's fine-tuning.")
    attention_weights: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = Field(
        (500.0, 1000.0, 1000.0),
        description="beta_l of the last three stages, the last one last. NAD: 500, 1000, 1000.",
    )
    power: float = Field(2.0, gt=0, le=8, description="p of the attention sum_c |F_c|^p. NAD: 2.")
    feature_weight: float = Field(
        5.0, ge=0, description="gamma, weight of 1 - cosine to the teacher's feature. NAD has a labelled term instead."
    )


def stage_plan(config: NadConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes."""
    return {**teacher_plan(config, load), STAGE: training_passes(config, load, forward=2, training=2)}


def unlearn(
    encoder: Encoder, images: ImageSet, triggers: Sequence[Trigger], config: NadConfig, run: Run, *, seed: int
) -> Unlearning:
    """A copy of ``encoder`` whose attention is a fine-tuned teacher's. ``triggers`` only say what is left of them.

    Raises:
        UsageError: the network has no feature maps. AuditFailed: the loss is no longer finite.
    """
    train, held_back = to_train(images, encoder.device, seed)
    guard = UtilityEvaluator(encoder, held_back, triggers)
    student = copy_to_train(encoder)
    stages = last_resolutions(student, held_back)
    weights = config.attention_weights[-len(stages) :]
    teacher = taught_teacher(encoder, train, config, run, seed=seed)

    with captured(student, stages) as seen, captured(teacher, stages) as taught:

        def look(network: Encoder, maps: Mapping[str, Tensor], views: Images) -> tuple[Tensor, ...]:
            def at(part: Images) -> tuple[Tensor, ...]:
                features = one_pass(network, part)
                return features, *(attention(maps[stage], config.power) for stage in stages)

            return in_parts(network, views, at)

        def objective(clean: Images, random: torch.Generator) -> Tensor:
            views = two_views_in_one(clean, config.crop, random)
            (features, *own), (targets, *others) = look(student, seen, views), look(teacher, taught, views)
            loss = config.feature_weight * (1 - paired_similarity(features, targets)).mean()
            for weight, mine, other in zip(weights, own, others, strict=True):
                loss = loss + weight * mse_loss(mine, other)
            return loss

        done = train_on_clean(student, train, objective, config, run, STAGE, seed=seed, guard=guard)
    return guard.result(student, done.history, done.notes)
