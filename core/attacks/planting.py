"""The loop that attacks on trained encoders share: a copy is tuned so that a trigger leads to the reference images.

What differs is the loss of a step (BadEncoder's three cosines, DRUPE's with more). All BatchNorm layers are frozen,
statistics and affine weights alike, as in the official codes of both; triggered images are rounded to 8 bits, as the
victim will see them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from core.config import MethodConfig
from core.device import mixed_precision
from core.images.augment import ColourJitter, jitter_colours, random_flip
from core.micro_batches import features_of, room
from core.random import batch_indices, generator
from core.run import Run
from core.training.finite import require_finite
from core.training.state import TrainingState
from core.triggers.stored import as_stored
from core.types import Encoder, Features, Images, ImageSet, Trigger

STAGE = "plant backdoor"


class PlantingConfig(MethodConfig):
    """Parameters that every attack on an encoder has."""

    steps: int = Field(300, ge=1, description="Optimisation steps. Official: 200 epochs of 50,000 images.")
    batch_size: int = Field(128, ge=2, description="Shadow images per step. Official: 256.")
    learning_rate: float = Field(
        0.01,
        gt=0,
        description="SGD learning rate. Official: 1e-3, for many more steps; 0.03 breaks some encoders.",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum. Official: 0.9.")
    weight_decay: float = Field(5e-4, ge=0, description="SGD weight decay. Official: 5e-4.")


@dataclass(frozen=True)
class StepFeatures:
    """What one step sees. The student's features of triggered and clean shadow images ``[B, D]``, of augmented and
    plain references ``[R, D]``; the clean encoder's of the same clean images and references. None is normalised."""

    triggered: Features
    clean: Features
    augmented: Features
    reference: Features
    clean_target: Features
    reference_target: Features


@dataclass(frozen=True)
class BackdooredEncoder:
    """A backdoored copy of an encoder, and the three losses of its last step (-1 is perfect for each)."""

    encoder: Encoder
    effectiveness_loss: float
    reference_loss: float
    utility_loss: float


LossNames = ("effectiveness_loss", "reference_loss", "utility_loss")
StepLoss = Callable[[StepFeatures, int, dict[str, float]], tuple[Tensor, tuple[Tensor, Tensor, Tensor]]]
"""(features, step, numbers carried from step to step) -> the total to minimise, and the three losses to report."""


def plant(
    encoder: Encoder,
    images: ImageSet,
    reference: Images,
    trigger: Trigger,
    config: PlantingConfig,
    run: Run,
    step_loss: StepLoss,
    *,
    seed: int,
) -> BackdooredEncoder:
    """Tune a copy of ``encoder`` by ``step_loss``; ``encoder`` is left as it was.

    Raises:
        AuditFailed: a loss became NaN or infinite (the learning rate is too large for this encoder).
    """
    teacher = encoder.eval() if not encoder.training else copy.deepcopy(encoder).eval()
    student = copy.deepcopy(teacher).to(memory_format=torch.channels_last)
    freeze_batch_norm(student)
    reference = reference.to(encoder.device)
    with torch.no_grad():
        reference_target = teacher(reference).float()

    state = TrainingState({"student": student}, _optimiser(student, config))
    for step in run.steps(STAGE, config.steps, state=state):
        clean = images.batch(batch_indices(len(images), config.batch_size, seed, STAGE, step), encoder.device)
        augmented = augment_reference(reference, generator(seed, STAGE, "reference", step))
        with mixed_precision(encoder.device, encoder):
            with torch.no_grad():
                parts = clean.split(room(teacher, clean, learning=False))
                clean_target = torch.cat([teacher(part) for part in parts])
            everything = torch.cat([as_stored(trigger(clean)), clean, augmented, reference])
        features = features_of(student, everything)
        sizes = [len(clean), len(clean), len(reference), len(reference)]
        triggered, kept, augmented_features, own_reference = features.split(sizes)
        seen = StepFeatures(triggered, kept, augmented_features, own_reference, clean_target.float(), reference_target)
        total, losses = step_loss(seen, step, state.scalars)
        require_finite(total, step)
        state.optimiser.zero_grad()
        total.backward()
        state.optimiser.step()
        state.scalars |= {name: float(loss.detach()) for name, loss in zip(LossNames, losses, strict=True)}
        run.log(**{name: state.scalars[name] for name in LossNames})

    student.requires_grad_(True)
    return BackdooredEncoder(student.eval(), *(state.scalars[name] for name in LossNames))


def reference_and_utility(features: StepFeatures) -> tuple[Tensor, Tensor]:
    """L1 = -cos(f'(aug(r)), f(r)) and L2 = -cos(f'(x), f(x)), means; scalars."""
    reference = -functional.cosine_similarity(features.augmented, features.reference_target).mean()
    utility = -functional.cosine_similarity(features.clean, features.clean_target).mean()
    return reference, utility


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


def _optimiser(student: Encoder, config: PlantingConfig) -> torch.optim.SGD:
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    return torch.optim.SGD(trained, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)
