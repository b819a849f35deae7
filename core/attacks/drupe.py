"""DRUPE: a BadEncoder whose triggered features hide among the clean ones (Tao et al., IEEE S&P 2024).

BadEncoder's triggered features form one tight cluster apart from all others, which detectors look for. DRUPE adds, in a
second stage, terms that spread the triggered features and move their distribution onto the clean one:

    stage 1:  L0 + L1 + L2 + 2 std_ref
    stage 2:  L0 + L1 + L2 + c (std_ref + s_bb) + c_1 SW(f'(x + e), f'(x)) / sigma_clean + 0.5 std_ref

L0 uses, for each image, the reference that fits it best; std_ref is the deviation over references of how much of the
batch each attracts, so that all are used; s_bb is the mean pairwise cosine of the triggered features; SW the sliced
Wasserstein distance of features that are not normalised, sigma_clean their standard deviation. c and c_1 grow by
``growth`` whenever the attack's own goals are met (L0 < -0.96, L1 and L2 < -0.9) in two checks running, and shrink by
growth^1.25 when they are missed twice.

Deviations: steps instead of epochs (a check every ``check_every`` steps instead of once per epoch of 120); std_ref is
read as the deviation of the references' mean cosines to the batch, since the paper defines the term by words only; the
penalty on references that are alike (above a cosine of 0.4 or 0.5) is left out: references are chosen images. In the
official code a typing error makes its BadEncoder baseline use the best reference as well; ours uses all.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from core.attacks.planting import BackdooredEncoder, PlantingConfig, StepFeatures, plant, reference_and_utility
from core.device import to_like
from core.ops.sliced_wasserstein import random_directions, sliced_wasserstein
from core.random import generator
from core.run import Run
from core.types import Encoder, Features, Images, ImageSet, Trigger


class DrupeConfig(PlantingConfig):
    """Parameters of DRUPE. It takes several references; the official number is 3."""

    steps: int = Field(400, ge=1, description="Optimisation steps. Official: 120 epochs of 10,000 images.")
    first_stage: float = Field(
        0.25, ge=0, le=1, description="Share of the steps in stage 1. Official: 5 of 120 epochs."
    )
    spread_weight: float = Field(0.1, ge=0, description="c at its start. Official: 0.1.")
    distance_weight: float = Field(1e-3, ge=0, description="c_1 at its start. Official: 1e-3.")
    growth: float = Field(1.25, gt=1, description="Factor of c and c_1 when the goals are met. Official: 1.25.")
    check_every: int = Field(10, ge=1, description="Steps between two checks of the goals. Official: one epoch.")
    projections: int = Field(
        64, ge=1, description="Directions of the sliced Wasserstein distance; POT's default is 50."
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"paper": {"steps": 4_700, "batch_size": 256, "learning_rate": 0.05, "first_stage": 0.042, "check_every": 39}}
    )


def backdoor(
    encoder: Encoder,
    images: ImageSet,
    reference: Images,
    trigger: Trigger,
    config: DrupeConfig,
    run: Run,
    *,
    seed: int,
) -> BackdooredEncoder:
    """Plant ``trigger`` into a copy of ``encoder``, so that each triggered image meets one of ``reference`` ``[R, 3, H,
    W]`` and none stands out.

    ``images`` are the attacker's unlabelled shadow images. ``encoder`` is left as it was.

    Raises:
        AuditFailed: a loss became NaN or infinite (the learning rate is too large for this encoder).
    """

    def step_loss(
        features: StepFeatures, step: int, carried: dict[str, float]
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        effectiveness, imbalance = best_reference(features.triggered, features.reference)
        losses = (effectiveness, *reference_and_utility(features))
        total = losses[0] + losses[1] + losses[2]
        if step < config.first_stage * config.steps:
            return total + 2 * imbalance, losses
        _adapt(carried, losses, config, step)
        random = generator(seed, "DRUPE directions", step)
        directions = to_like(random_directions(features.clean.shape[1], config.projections, random), features.clean)
        distance = sliced_wasserstein(features.triggered, features.clean, directions)
        deviation = features.clean.detach().std().clamp_min(1e-6)
        spread = imbalance + mean_pairwise_cosine(features.triggered)
        total = total + carried["spread_weight"] * spread + carried["distance_weight"] * distance / deviation
        return total + 0.5 * imbalance, losses

    return plant(encoder, images, reference, trigger, config, run, step_loss, seed=seed)


def best_reference(triggered: Features, reference: Features) -> tuple[Tensor, Tensor]:
    """L0 with each image's best reference, and how unevenly the references attract the batch (std_ref); scalars."""
    cosines = functional.normalize(triggered, dim=1) @ functional.normalize(reference, dim=1).T
    effectiveness = -cosines.amax(1).mean()
    imbalance = cosines.mean(0).std(correction=0)
    return effectiveness, imbalance


def mean_pairwise_cosine(features: Features) -> Tensor:
    """Mean cosine over all pairs of different rows of ``[B, D]``, without the B x B matrix; a scalar."""
    unit = functional.normalize(features, dim=1)
    count = len(unit)
    return (unit.sum(0).square().sum() - count) / (count * (count - 1))


def _adapt(carried: dict[str, float], losses: tuple[Tensor, Tensor, Tensor], config: DrupeConfig, step: int) -> None:
    """Move c and c_1 by whether the attack's goals hold, with a patience of one check."""
    carried.setdefault("spread_weight", config.spread_weight)
    carried.setdefault("distance_weight", config.distance_weight)
    if step % config.check_every:
        return
    effectiveness, reference, utility = (float(loss.detach()) for loss in losses)
    met = effectiveness < -0.96 and reference < -0.9 and utility < -0.9
    streak = carried.get("streak", 0.0)
    streak = max(streak, 0.0) + 1 if met else min(streak, 0.0) - 1
    if abs(streak) >= 2:
        factor = config.growth if met else config.growth**-1.25
        carried["spread_weight"] *= factor
        carried["distance_weight"] *= factor
        streak = 0.0
    carried["streak"] = streak
