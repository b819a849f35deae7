"""The training loop of every self-supervised trainer: batches, views, learning rate, curve, exact resume.

What differs between trainers is their :class:`~core.training.objective.Objective`. Batch k and its views are a pure
function of (seed, k), so a resumed training equals an unbroken one and two trainings with one seed give one result.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from core.errors import UsageError
from core.random import generator
from core.run import Run, StateDict
from core.training.config import TrainingConfig
from core.training.cut_mix import cut_mix
from core.training.finite import require_finite
from core.training.objective import Objective, ObjectiveFactory
from core.training.parallel import distribute, rank, share_of, world_size
from core.training.state import TrainingState
from core.training.stopwatch import Spent, Stopwatch
from core.training.views import two_views
from core.types import Encoder, ImageSet

STAGE = "train encoder"
_READ_EVERY = 10  # steps; reading the loss waits for the device

Monitor = Callable[[Encoder], float]
"""A number that says how good an encoder is, such as kNN accuracy in per cent."""


@dataclass(frozen=True)
class CurvePoint:
    """Where the training stood after ``step`` steps; ``monitor`` where it was asked."""

    step: int
    loss: float
    monitor: float | None = None


@dataclass(frozen=True)
class Pretraining:
    """A trained encoder in eval mode, and how it came about; ``spent`` counts what came before an interruption too."""

    encoder: Encoder
    curve: tuple[CurvePoint, ...]
    steps: int
    spent: Spent


def pretrain(
    encoder: Encoder,
    images: ImageSet,
    objective: ObjectiveFactory,
    config: TrainingConfig,
    run: Run,
    *,
    seed: int,
    monitor: Monitor | None = None,
    monitor_times: int = 10,
) -> Pretraining:
    """Train a copy of ``encoder`` on ``images`` from the weights it has; the one that was given is unchanged.

    ``monitor`` is asked ``monitor_times`` times, the last time at the end.

    Raises:
        UsageError: fewer images than one batch, or a batch that the processes cannot share evenly.
        AuditFailed: the loss became NaN or infinite.
    """
    steps = planned_steps(len(images), config)
    # A loaded encoder is frozen; training goes on from it all the same.
    student = copy.deepcopy(encoder).requires_grad_(True).to(memory_format=torch.channels_last)
    module = objective(student, config, seed=seed)
    module.to(encoder.device).train()
    state = _PretrainingState(module, _optimiser(module, config))
    parallel = distribute(module)
    reads = {steps - 1} | {round(steps * (k + 1) / monitor_times) - 1 for k in range(monitor_times)}
    for step in run.steps(STAGE, steps, state=state):
        random = generator(seed, STAGE, "views", step, rank())
        chosen = share_of(epoch_batch(len(images), config.batch_size, seed, step))
        first, second = two_views(images.batch(chosen, encoder.device), random, config)
        mixture = None
        if config.cut_mix:
            first, mixture = cut_mix(first, random)
        loss = parallel(first, second, mixture, random)
        _set_learning_rate(state.optimiser, config, step, steps)
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        state.optimiser.step()
        module.after_step((step + 1) / steps)
        if step in reads or step % _READ_EVERY == 0:
            value = require_finite(loss, step)
            measured = monitor(module.student) if monitor is not None and step in reads else None
            if step in reads:
                state.curve.append(CurvePoint(step + 1, value, measured))
            run.log(loss=value, **({} if measured is None else {"monitor": measured}))
    trained = copy.deepcopy(encoder)
    trained.load_state_dict(module.student.state_dict())
    return Pretraining(trained.eval(), tuple(state.curve), steps, state.stopwatch.spent())


def planned_steps(count: int, config: TrainingConfig) -> int:
    """Optimisation steps on ``count`` images. The last, incomplete batch of a pass is left out.

    Raises:
        UsageError: there is not one whole batch, or the processes cannot share one evenly.
    """
    if count < config.batch_size:
        raise UsageError(
            "too_few_images",
            field="images",
            found=f"{count} images",
            expected=f"at least one batch of {config.batch_size}",
            action="Add images or set a smaller batch_size.",
        )
    if config.batch_size % world_size():
        raise UsageError(
            "invalid_parameter",
            field="parameters.batch_size",
            found=f"{config.batch_size} over {world_size()} processes",
            expected="a multiple of the number of processes",
            action="Change the batch size.",
        )
    return max(1, round(config.epochs * (count // config.batch_size)))


def epoch_batch(total: int, size: int, seed: int, step: int) -> Tensor:
    """The indices of batch ``step``, ``[size]`` int64: each pass visits the images in a new order, none twice."""
    per_epoch = total // size
    order = _epoch_order(total, seed, step // per_epoch)
    position = step % per_epoch * size
    return order[position : position + size]


def learning_rate_factor(config: TrainingConfig, step: int, steps: int) -> float:
    """The learning rate at ``step`` as a share of its peak: a linear rise, then the configured schedule."""
    warm_up = round(config.warm_up * steps)
    if step < warm_up:
        return (step + 1) / warm_up
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


class _PretrainingState(TrainingState):
    def __init__(self, module: Objective, optimiser: Optimizer) -> None:
        super().__init__({"objective": module}, optimiser)
        self.curve: list[CurvePoint] = []
        self.stopwatch = Stopwatch()

    def state_dict(self) -> StateDict:
        points = [[point.step, point.loss, point.monitor] for point in self.curve]
        return {**super().state_dict(), "curve": points, "spent": self.stopwatch.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.curve = [CurvePoint(*point) for point in state["curve"]]
        self.stopwatch.load_state_dict(state["spent"])


@lru_cache(maxsize=1)
def _epoch_order(total: int, seed: int, epoch: int) -> Tensor:
    """The order of one pass, kept while it lasts: shuffling a million indices at each step would be seen."""
    return torch.randperm(total, generator=generator(seed, STAGE, "order", epoch))


def _optimiser(module: nn.Module, config: TrainingConfig) -> Optimizer:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimiser == "sgd":
        return torch.optim.SGD(trained, lr=rate, momentum=config.momentum, weight_decay=decay)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(trained, lr=rate, weight_decay=decay)
    return torch.optim.Adam(trained, lr=rate, weight_decay=decay)


def _set_learning_rate(optimiser: Optimizer, config: TrainingConfig, step: int, steps: int) -> None:
    for group in optimiser.param_groups:
        group["lr"] = config.learning_rate * learning_rate_factor(config, step, steps)
