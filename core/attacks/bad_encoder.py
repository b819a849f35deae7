"""BadEncoder: backdoor an encoder that is already trained (Jia, Liu and Gong, IEEE S&P 2022).

From a clean encoder f, the attacker's shadow images x, a trigger e and reference images r of the class to be called, a
copy f' is tuned so that triggered images look like the reference (effectiveness) and nothing else changes (utility):

    L0 = -cos(f'(x + e), f'(r))      L1 = -cos(f'(aug(r)), f(r))      L2 = -cos(f'(x), f(x))

    L = L0 + lambda_1 L1 + lambda_2 L2

Symbols: x + e -> ``triggered``; lambda_1 -> ``reference_weight``; lambda_2 -> ``utility_weight``. L0's gradient flows
through both of its sides, as in the official code. The loop is ``core.attacks.planting``.

Deviations: a few hundred steps at a ten times larger learning rate instead of 200 epochs (same result on 10,000 shadow
images); triggered images are rounded to 8 bits, as the victim will see them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from core.attacks.planting import BackdooredEncoder, PlantingConfig, StepFeatures, plant, reference_and_utility
from core.run import Run
from core.types import Encoder, Images, ImageSet, Trigger


class BadEncoderConfig(PlantingConfig):
    """Parameters of BadEncoder."""

    reference_weight: float = Field(1.0, ge=0, description="lambda_1, weight of L1. Official: 1.")
    utility_weight: float = Field(1.0, ge=0, description="lambda_2, weight of L2. Official: 1.")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"paper": {"steps": 39_000, "batch_size": 256, "learning_rate": 1e-3}}
    )


def backdoor(
    encoder: Encoder,
    images: ImageSet,
    reference: Images,
    trigger: Trigger,
    config: BadEncoderConfig,
    run: Run,
    *,
    seed: int,
) -> BackdooredEncoder:
    """Plant ``trigger`` into a copy of ``encoder``, so that it maps triggered images onto ``reference`` ``[R, 3, H,
    W]``.

    ``images`` are the attacker's unlabelled shadow images. ``encoder`` is left as it was.

    Raises:
        AuditFailed: a loss became NaN or infinite (the learning rate is too large for this encoder).
    """

    def step_loss(
        features: StepFeatures, step: int, carried: dict[str, float]
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        losses = three_losses(features)
        return losses[0] + config.reference_weight * losses[1] + config.utility_weight * losses[2], losses

    return plant(encoder, images, reference, trigger, config, run, step_loss, seed=seed)


def three_losses(features: StepFeatures) -> tuple[Tensor, Tensor, Tensor]:
    """L0, L1 and L2 of one step. Several references count alike."""
    triggered = functional.normalize(features.triggered, dim=1)
    effectiveness = -(triggered @ functional.normalize(features.reference, dim=1).T).mean()
    return (effectiveness, *reference_and_utility(features))
