"""Training a copy of the encoder on clean images alone: the loop that the label-free baselines share.

A baseline gives the loss of a batch; the loop draws the batches, steps the weights, stops when clean features run away
and resumes exactly. BatchNorm is frozen, statistics and weights: a few hundred images would replace the statistics of
the whole training set, the usual reason why a fine-tuned encoder loses accuracy.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from core.images.augment import ColourJitter, jitter_colours, random_flip, random_resized_crop
from core.passes import Passes, Workload
from core.random import draw_batch, generator
from core.run import Run
from core.training.loss_history import LossHistory
from core.training.state import TrainingState
from core.types import Encoder, Images
from core.unlearning.utility import UtilityEvaluator
from core.unlearning.utility_guard import LOOK_EVERY, GuardedConfig, UtilityGuard, is_due

Objective = Callable[[Images, torch.Generator], Tensor]
"""The loss, a scalar, of a batch of clean images; views are drawn from the generator."""


class CleanTrainingConfig(GuardedConfig):
    """What every baseline's training has."""

    steps: int = Field(200, ge=1, le=20000, description="Steps of training on the clean images.")
    batch_size: int = Field(128, ge=2, le=4096, description="Clean images per step.")
    learning_rate: float = Field(0.003, gt=0, le=1, description="SGD rate, warmed up and cosine-decayed.")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum.")
    crop: float = Field(0.4, gt=0, le=1, description="Smallest area of the random crop, as a share of the image.")


def train_on_clean(
    student: Encoder,
    images: Images,
    objective: Objective,
    config: CleanTrainingConfig,
    run: Run,
    stage: str,
    *,
    seed: int,
    guard: UtilityEvaluator | None = None,
    after_step: Callable[[], None] | None = None,
) -> CleanTraining:
    """Minimise ``objective`` over the weights of ``student``, in place; ``guard`` holds it to the limits.

    Raises:
        AuditFailed: the loss is no longer finite.
    """
    weights = _trainable(student)
    state = TrainingState({"student": student}, torch.optim.SGD(weights, config.learning_rate, config.momentum))
    progress = CleanTraining(state, None if guard is None else UtilityGuard(guard, student, config))
    for step in run.steps(stage, config.steps, state=progress):
        if progress.stopped:
            break
        warm_then_cosine(state.optimiser, config.learning_rate, step, config.steps)
        chosen = draw_batch(images, config.batch_size, seed, stage, step)
        loss = objective(chosen, generator(seed, stage, "draw", step))
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        state.optimiser.step()
        if after_step is not None:
            after_step()
        progress.losses.add(loss, step)
        if is_due(step, config.steps):
            progress.look(step)
            run.log(loss=progress.history[-1])
    progress.settle()
    student.requires_grad_(False).eval()
    return progress


def training_passes(
    config: CleanTrainingConfig, load: Workload, *, forward: int, training: int, steps: int | None = None
) -> Passes:
    """Encoder passes of ``steps`` (by default the configuration's) in which each image of a batch is seen so often with
    and without a gradient, with the looks at held-back images."""
    steps = config.steps if steps is None else steps
    batch, held = min(config.batch_size, load.parts.training), load.parts.guard
    return Passes(forward=steps * batch * forward + (2 + steps // LOOK_EVERY) * held, training=steps * batch * training)


def copy_to_train(encoder: Encoder) -> Encoder:
    """A copy in eval mode (BatchNorm and dropout frozen), laid out for training."""
    return copy.deepcopy(encoder).eval().requires_grad_(False).to(memory_format=torch.channels_last)


def warm_then_cosine(optimiser: torch.optim.Optimizer, rate: float, step: int, total: int) -> None:
    """Set the rate of ``step``: ten steps of warm-up, within a cosine to zero."""
    warm = min(1.0, (step + 1) / 10)
    for group in optimiser.param_groups:
        group["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * step / total))


def two_views_in_one(images: Images, crop: float, random: torch.Generator) -> Images:
    """``[2B, 3, H, W]``: rows i and B + i are two views of image i (mirror, crop, colours)."""
    doubled = torch.cat([images, images])
    cropped = random_resized_crop(random_flip(doubled, random), random, scale=(crop, 1.0))
    return jitter_colours(cropped, random, ColourJitter())


class CleanTraining:
    """The training state with its guard and the losses so far: a resumed run must report the same."""

    def __init__(self, training: TrainingState, guard: UtilityGuard | None) -> None:
        self._training = training
        self._guard = guard
        self.losses = LossHistory()
        self.notes: tuple[str, ...] = ()
        """What the guard did, for the report."""

    @property
    def stopped(self) -> bool:
        return self._guard is not None and self._guard.stopped

    @property
    def history(self) -> tuple[float, ...]:
        """The loss of each step."""
        return tuple(self.losses.values)

    def look(self, step: int) -> None:
        """After ``step``: go on or stop.

        Raises:
            AuditFailed: a loss was not finite.
        """
        self.losses.require_finite()
        if self._guard is not None:
            self._guard.look(step + 1)

    def settle(self) -> None:
        if self._guard is not None:
            self.notes = self._guard.settle()

    def state_dict(self) -> dict[str, Any]:
        guard = None if self._guard is None else self._guard.state_dict()
        return {"training": self._training.state_dict(), "guard": guard, "losses": self.losses.state_dict()}

    def load_state_dict(self, state: Any) -> None:
        self._training.load_state_dict(state["training"])
        if self._guard is not None:
            self._guard.load_state_dict(state["guard"])
        self.losses.load_state_dict(state["losses"])


def _trainable(student: Encoder) -> list[nn.Parameter]:
    """All weights but BatchNorm's, told to take gradients."""
    weights = [
        weight
        for layer in student.modules()
        if not isinstance(layer, nn.modules.batchnorm._BatchNorm)
        for weight in layer.parameters(recurse=False)
    ]
    for weight in weights:
        weight.requires_grad_(True)
    return weights
