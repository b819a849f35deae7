"""SSLDefender's distillation-guided unlearning (Sec. IV-C, Algorithm 2).

A student, copied from the suspect encoder, learns to map a triggered image to where it maps the clean one, while a
teacher holds its clean features in place:

    L = alpha d(S(x), S(x')) + beta d(S(x), T(x))

Symbols: S -> ``student``; T -> ``teacher``; x' = Mix(x, Delta) -> ``triggered``; d -> sliced 2-Wasserstein in the
paper.

Deviations from the paper, each a parameter (preset ``paper`` restores the printed form):
* d is one minus the cosine of *paired* features by default. Sliced Wasserstein compares two clouds and is blind to
  which image a feature belongs to; on the same triggers it costs more clean accuracy for the same ASR.
* The clean branch of the first term is detached: the triggered feature moves to the clean one, never the reverse.
* The teacher is the frozen input encoder, not a fine-tuned copy: it only ever sees clean images.
* Every image of a step gets a trigger drawn afresh from all recovered ones, moved by up to ``jitter`` pixels; triggers
  that still pull features towards the backdoor are drawn more often.
* The goal of triggered images is the teacher's clean feature at first and moves to the student's (``lead_in``).
* A training whose clean features run away is set back to its last good weights and goes on at half the rate.
* That goal lies a little beyond the clean feature, away from where the trigger led (``overshoot``): recovered triggers
  are not the true one, which stays behind them.
* On clean images the student is also held to the teacher's feature maps (``map_weight``): a feature is one vector, and
  a few hundred of them say little about what the network is to stay.
* BatchNorm's statistics are taken anew from clean images in the end: during training half of every batch is triggered.
  Where those of the clean images differ much from the encoder's, its own are kept (``batch_statistics``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from core.device import to_device
from core.image_parts import to_train
from core.images.augment import random_flip, random_resized_crop
from core.passes import Passes, Workload
from core.random import draw_batch, generator
from core.run import Run
from core.training.loss_history import LossHistory
from core.training.state import TrainingState
from core.types import Encoder, Features, Images, ImageSet, Trigger
from core.unlearning.batch_statistics import clean_statistics, why_statistics_stay
from core.unlearning.clean_training import warm_then_cosine
from core.unlearning.objective import beyond, goal_of, own_share, paired_distance, sliced_distance
from core.unlearning.paired_passes import PairedPasses
from core.unlearning.result import Unlearning
from core.unlearning.stages import captured, intermediate_stages
from core.unlearning.stamping import require_triggers, stamp_each
from core.unlearning.teacher import TEACHER_STAGE, fine_tuned_teacher
from core.unlearning.utility import UtilityEvaluator
from core.unlearning.utility_guard import LOOK_EVERY, GuardedConfig, UtilityGuard, is_due

STAGE = "unlearn"
MOST_RETREATS = 3
"""How often a training whose clean features ran away goes back and on at half the rate, before it stops. Which rate an
encoder bears depends on the scale of its weights, which BatchNorm hides."""
USUAL_TRIGGERS = 8
"""Triggers that a plan of the cost reckons with."""
LEAST_SHARE = 2e-4
"""Added to the square of every trigger's pull (a cosine, about 0.5 at first), so that none is forgotten altogether.
The square puts most of a step on the one trigger that holds out: an opaque patch does, among patterns that give way."""


class UnlearningConfig(GuardedConfig):
    """Parameters of the unlearning; the paper's symbol and value where it gives one."""

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {
            "distance": "sliced_wasserstein",
            "detach_clean": False,
            "teacher_steps": 50,
            "steps": 200,
            "batch_size": 256,
            "learning_rate": 1e-3,
            "unlearn_weight": 0.5,
            "lead_in": 0.0,
            "map_weight": 0.0,
            "overshoot": 0.0,
            "train_batch_norm": False,
        },
        "quick": {"steps": 60, "batch_size": 64},
    }

    steps: int = Field(200, ge=1, le=20000, description="Steps (E). The paper: 500 in its settings, 100 in its timing.")
    batch_size: int = Field(
        128, ge=2, le=4096, description="Clean images per step, each also triggered. The paper: 256."
    )
    learning_rate: float = Field(
        0.1, gt=0, le=1, description="SGD rate, warmed up and cosine-decayed. The paper: 1e-3."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD momentum. The paper: 0.9.")
    unlearn_weight: float = Field(
        1.0,
        ge=0,
        description="alpha, weight of the triggered term. The paper gives none; 0.5 leaves large patches acting.",
    )
    distil_weight: float = Field(
        0.5, ge=0, description="beta, weight of the teacher term. The paper: 0.5 (its 'loss term B')."
    )
    map_weight: float = Field(
        0.5,
        ge=0,
        description="Weight of the gap between the student's and the teacher's feature maps of clean images, at the "
        "last three resolutions (a transformer's blocks). The paper: none.",
    )
    distance: Literal["paired_cosine", "sliced_wasserstein"] = Field(
        "paired_cosine", description="d. The paper: sliced_wasserstein."
    )
    projections: int = Field(
        256, ge=1, le=8192, description="M, directions of the sliced distance. The paper gives none."
    )
    detach_clean: bool = Field(True, description="Stop the gradient through the clean branch. The paper: no.")
    teacher_steps: int = Field(
        0,
        ge=0,
        le=5000,
        description="Steps of contrastive fine-tuning of the teacher; 0: the frozen input encoder. "
        "The paper fine-tunes and gives no recipe.",
    )
    train_batch_norm: bool = Field(
        True,
        description="Let BatchNorm's statistics follow, unless those of the clean images differ much from the "
        "encoder's. The paper does not say.",
    )
    statistics_from: Literal["images", "views"] = Field(
        "images",
        description="Where the last BatchNorm statistics come from: the clean images, or crops of them in other "
        "colours, which keeps more of what the encoder is worth on unlike images and less on these. "
        "Not in the paper.",
    )
    jitter: int = Field(1, ge=0, le=16, description="Pixels by which a trigger is moved at random. Not in the paper.")
    crop: float = Field(
        0.6, gt=0, le=1, description="Smallest area of the random crop of clean images. Not in the paper."
    )
    lead_in: float = Field(
        0.5,
        ge=0,
        le=3,
        description="Share of the steps over which the goal of triggered images moves from the teacher's clean "
        "features to the student's; 3: the teacher's throughout. The paper: 0, the student's from the first step.",
    )
    overshoot: float = Field(
        0.2,
        ge=0,
        le=1,
        description="How far beyond that goal triggered features are led, away from where their trigger led; what is "
        "done to recovered triggers is not quite done to the true one. The paper: 0.",
    )


def stage_plan(config: UnlearningConfig, load: Workload) -> dict[str, Passes]:
    """Stage name -> encoder passes (a training step of both halves and the teacher's forward pass)."""
    batch, held = min(config.batch_size, load.parts.training), load.parts.guard
    looks = config.steps // LOOK_EVERY * (held + (1 + USUAL_TRIGGERS) * min(32, held)) + 2 * USUAL_TRIGGERS * held
    statistics = 4 * load.parts.training if config.train_batch_norm else 0
    return {
        TEACHER_STAGE: Passes(training=config.teacher_steps * batch * 2),
        STAGE: Passes(forward=config.steps * batch + looks + statistics, training=config.steps * batch * 2),
    }


def unlearn(
    encoder: Encoder, images: ImageSet, triggers: Sequence[Trigger], config: UnlearningConfig, run: Run, *, seed: int
) -> Unlearning:
    """A purified copy of ``encoder`` on which ``triggers`` no longer act. Clean images that guard never train.

    Raises:
        UsageError: no triggers. AuditFailed: the loss is no longer finite.
    """
    require_triggers(triggers)
    train, held_back = to_train(images, encoder.device, seed)
    teacher = fine_tuned_teacher(encoder, train, config.teacher_steps, config.batch_size, run, seed=seed)
    measured = UtilityEvaluator(encoder, held_back, triggers)
    why_they_stay = (
        why_statistics_stay(encoder, train, measured, config.batch_size) if config.train_batch_norm else None
    )
    train_batch_norm = config.train_batch_norm and why_they_stay is None
    student = _student(encoder, train_batch_norm=train_batch_norm)
    state = TrainingState({"student": student}, _optimiser(student, config))
    progress = _Progress(state, UtilityGuard(measured, student, config), torch.ones(len(triggers)))
    leads = measured.leads()
    stages = intermediate_stages(encoder, train) if config.map_weight else []
    divisible = config.distance == "paired_cosine"
    with captured(student, stages) as own_maps, captured(teacher, stages) as taught_maps:
        passes = PairedPasses(student, teacher, own_maps, taught_maps, config.map_weight)
        in_parts = passes.note(train, min(config.batch_size, len(train)))
        for step in run.steps(STAGE, config.steps, state=progress):
            if progress.guard.stopped:
                break
            rate = config.learning_rate * 0.5**progress.guard.retreats
            warm_then_cosine(state.optimiser, rate, step, config.steps)
            random = generator(seed, STAGE, "draw", step)
            clean = _view(draw_batch(train, config.batch_size, seed, STAGE, step), config, random)
            stamped = stamp_each(clean, triggers, progress.weights, config.jitter, random)
            led_to = leads[to_device(stamped.which, leads.device)]
            own = own_share(step / config.steps, config.lead_in)
            state.optimiser.zero_grad(set_to_none=True)
            step_loss = partial(_loss, own=own, config=config, random=random)
            loss = passes.descend(clean, stamped.images, led_to, step_loss, divisible=divisible)
            state.optimiser.step()
            progress.losses.add(loss, step)
            if is_due(step, config.steps):
                progress.look(step)
                progress.weights = measured.pulls(student).square() + LEAST_SHARE
                if progress.losses.values:
                    run.log(loss=progress.losses.values[-1])
    if train_batch_norm and not progress.guard.stopped:
        views = generator(seed, STAGE, "statistics") if config.statistics_from == "views" else None
        clean_statistics(student, train, config.batch_size, views)
    notes = (*progress.guard.settle(), *(() if why_they_stay is None else (why_they_stay,)), *in_parts)
    student = student.requires_grad_(False).eval()
    return measured.result(student, tuple(progress.losses.values), notes)


def _loss(
    of_clean: Features,
    of_triggered: Features,
    taught: Features,
    led_to: Features,
    *,
    own: float,
    config: UnlearningConfig,
    random: torch.Generator,
) -> Tensor:
    """alpha d(S(x'), goal) + beta d(S(x), T(x)). ``own`` is the student's share of the goal, the rest is T(x);
    ``led_to`` ``[B, D]`` is that of ``objective.beyond``."""
    goal = goal_of(of_clean.detach() if config.detach_clean else of_clean, taught, own)
    goal = beyond(goal, led_to, config.overshoot)
    distance = paired_distance
    if config.distance == "sliced_wasserstein":
        distance = sliced_distance(of_clean.shape[1], config.projections, random, of_clean)
    away, drift = distance(of_triggered, goal), distance(of_clean, taught.float())
    return config.unlearn_weight * away + config.distil_weight * drift


def _student(encoder: Encoder, *, train_batch_norm: bool) -> Encoder:
    student = copy.deepcopy(encoder).train().requires_grad_(True).to(memory_format=torch.channels_last)
    if not train_batch_norm:
        for layer in student.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()
    return student


def _optimiser(student: Encoder, config: UnlearningConfig) -> torch.optim.SGD:
    return torch.optim.SGD(student.parameters(), lr=config.learning_rate, momentum=config.momentum)


def _view(images: Images, config: UnlearningConfig, random: torch.Generator) -> Images:
    """Flip and random crop: 500 images would otherwise be learnt by heart."""
    return random_resized_crop(random_flip(images, random), random, scale=(config.crop, 1.0))


class _Progress:
    """The training state with its guard, the losses so far and the triggers' shares: a resumed run must draw and
    report the same."""

    def __init__(self, training: TrainingState, guard: UtilityGuard, weights: Tensor) -> None:
        self._training = training
        self.guard = guard
        self.weights = weights
        self.losses = LossHistory()

    def look(self, step: int) -> None:
        """After ``step``: go on, go back, or stop.

        Raises:
            AuditFailed: a loss was not finite, and it has gone back often enough.
        """
        fault = self.losses.fetch()  # of maps: unlike directions, they have no bound
        if fault is None and self.guard.look(step + 1):
            return
        if self.guard.retreats < MOST_RETREATS:
            self._go_back()
        elif fault is not None:
            raise fault

    def _go_back(self) -> None:
        """To the last good weights, without the momentum that led astray; the rate is halved from here on."""
        self.guard.retreat()
        self._training.optimiser.state.clear()

    def state_dict(self) -> dict[str, Any]:
        return {
            "training": self._training.state_dict(),
            "guard": self.guard.state_dict(),
            "weights": self.weights,
            "losses": self.losses.state_dict(),
        }

    def load_state_dict(self, state: Any) -> None:
        self._training.load_state_dict(state["training"])
        self.guard.load_state_dict(state["guard"])
        self.losses.load_state_dict(state["losses"])
        self.weights = state["weights"]
