"""BadEncoder: backdoor an encoder that is already trained (Jia, Liu and Gong, IEEE S&P 2022).

From a clean encoder f, the attacker's shadow images x, a trigger e and reference images r of the class to be called, a
copy f' is tuned so that triggered images look like the reference (effectiveness) and nothing else changes (utility):

    L0 = -cos(f'(x + e), f'(r))      L1 = -cos(f'(aug(r)), f(r))      L2 = -cos(f'(x), f(x))

    L = L0 + lambda_1 L1 + lambda_2 L2

Symbols: x + e -> ``triggered``; lambda_1 -> ``reference_weight``; lambda_2 -> ``utility_weight``. All BatchNorm
layers are frozen, statistics and affine weights alike, and L0's gradient flows through both of its sides, as in the
official code.

Deviations: a few hundred steps at a ten times larger learning rate instead of 200 epochs (same result on 10,000 shadow
images); triggered images are rounded to 8 bits, as the victim will see them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from core.config import MethodConfig
from core.device import mixed_precision
from core.images.augment import ColourJitter, jitter_colours, random_flip
from core.random import batch_indices, generator
from core.run import Run
from core.training.finite import require_finite
from core.training.state import TrainingState
from core.triggers.stored import as_stored
from core.types import Encoder, Features, Images, ImageSet, Trigger

_STAGE = "plant backdoor"


class BadEncoderConfig(MethodConfig):
    """Parameters of BadEncoder."""

    steps: int = Field(300, ge=1, description="Optimisation steps. Official: 200 epochs of 50,000 images.")
    batch_size: int = Field(128, ge=2, description="Shadow images per step. Official: 256.")
    learning_rate: float = Field(
        0.01,
        gt=0,
        description="SGD learning rate. Official: 1e-3, for many more steps; 0.03 breaks some encoders.",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum. Official: 0.9.")
    weight_decay: float = Field(5e-4, ge=0, description="SGD weight decay. Official: 5e-4.")
    reference_weight: float = Field(1.0, ge=0, description="lambda_1, weight of L1. Official: 1.")
    utility_weight: float = Field(1.0, ge=0, description="lambda_2, weight of L2. Official: 1.")


@dataclass(frozen=True)
class BackdooredEncoder:
    """A backdoored copy of an encoder, and the three losses of its last step (-1 is perfect for each)."""

    encoder: Encoder
    effectiveness_loss: float
    reference_loss: float
    utility_loss: float


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
    teacher = encoder.eval() if not encoder.training else copy.deepcopy(encoder).eval()
    student = copy.deepcopy(teacher).to(memory_format=torch.channels_last)
    freeze_batch_norm(student)
    reference = reference.to(encoder.device)
    with torch.no_grad():
        reference_target = functional.normalize(teacher(reference).float(), dim=1)

    state = TrainingState({"student": student}, _optimiser(student, config))
    for step in run.steps(_STAGE, config.steps, state=state):
        clean = images.batch(batch_indices(len(images), config.batch_size, seed, _STAGE, step), encoder.device)
        augmented = augment_reference(reference, generator(seed, _STAGE, "reference", step))
        with mixed_precision(encoder.device):
            with torch.no_grad():
                clean_target = teacher(clean)
            everything = torch.cat([as_stored(trigger(clean)), clean, augmented, reference])
            features = student(everything.contiguous(memory_format=torch.channels_last))
        losses = three_losses(features.float(), clean_target.float(), reference_target)
        total = losses[0] + config.reference_weight * losses[1] + config.utility_weight * losses[2]
        require_finite(total, step)
        state.optimiser.zero_grad()
        total.backward()
        state.optimiser.step()
        names = ("effectiveness_loss", "reference_loss", "utility_loss")
        state.scalars = {name: float(loss.detach()) for name, loss in zip(names, losses, strict=True)}
        run.log(**state.scalars)

    student.requires_grad_(True)
    return BackdooredEncoder(student.eval(), **state.scalars)


def three_losses(
    features: Features, clean_target: Features, reference_target: Features
) -> tuple[Tensor, Tensor, Tensor]:
    """L0, L1 and L2 of one step.

    ``features`` are the student's for triggered, clean, augmented reference and reference images, ``[B + B + R + R,
    D]``; ``clean_target`` ``[B, D]`` and ``reference_target`` ``[R, D]`` are the clean encoder's. Several references
    count alike.
    """
    batch, references = len(clean_target), len(reference_target)
    unit = functional.normalize(features, dim=1)
    triggered, clean, augmented, own_reference = unit.split([batch, batch, references, references])
    effectiveness = -(triggered @ own_reference.T).mean()
    reference = -(augmented * functional.normalize(reference_target, dim=1)).sum(1).mean()
    utility = -(clean * functional.normalize(clean_target, dim=1)).sum(1).mean()
    return effectiveness, reference, utility


def augment_reference(reference: Images, random: torch.Generator) -> Images:
    """aug(r) of the official code: mirror, colour jitter, sometimes grey; no crop."""
    return jitter_colours(random_flip(reference, random), random, ColourJitter())


def freeze_batch_norm(module: nn.Module) -> None:
    """Put ``module`` in training mode with every BatchNorm fixed: running statistics used, none updated, no
    gradient."""
    module.train().requires_grad_(True)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval().requires_grad_(False)


def _optimiser(student: Encoder, config: BadEncoderConfig) -> torch.optim.SGD:
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)
