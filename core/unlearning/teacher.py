"""The teacher of SSLDefender's unlearning: the input encoder, or a copy fine-tuned on clean images.

The paper fine-tunes "the student model to obtain a relatively clean teacher" and gives no recipe. Ours: a short
contrastive fine-tuning (NT-Xent on the features themselves, frozen BatchNorm, small rate) on the clean images.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from core.images.augment import random_flip, random_resized_crop
from core.micro_batches import features_of
from core.ops.nt_xent import nt_xent
from core.random import draw_batch, generator
from core.run import Run
from core.training.state import TrainingState
from core.types import Encoder, Images

TEACHER_STAGE = "fine-tune teacher"


def fine_tuned_teacher(
    encoder: Encoder, images: Images, steps: int, batch_size: int, run: Run, *, seed: int
) -> Encoder:
    """A frozen teacher; with ``steps`` 0 a plain copy of ``encoder``, which only ever sees clean images."""
    teacher = copy.deepcopy(encoder).eval().to(memory_format=torch.channels_last)
    if steps:
        _fine_tune(teacher.requires_grad_(True), images, steps, batch_size, run, seed=seed)
    return teacher.eval().requires_grad_(False)


def _fine_tune(teacher: Encoder, images: Images, steps: int, batch_size: int, run: Run, *, seed: int) -> None:
    weights = [
        p for m in teacher.modules() if not isinstance(m, nn.modules.batchnorm._BatchNorm) for p in m.parameters(False)
    ]
    optimiser = torch.optim.SGD(weights, lr=1e-3, momentum=0.9)
    state = TrainingState({"teacher": teacher}, optimiser)
    for step in run.steps(TEACHER_STAGE, steps, state=state):
        chosen = draw_batch(images, batch_size, seed, TEACHER_STAGE, step)
        random = generator(seed, TEACHER_STAGE, "views", step)
        views = [random_resized_crop(random_flip(chosen, random), random, scale=(0.2, 1.0)) for _ in range(2)]
        loss = nt_xent(features_of(teacher, torch.cat(views)), 0.5)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        run.log(loss=float(loss.detach()))
