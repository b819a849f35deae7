"""SimCLR: train an encoder without labels (Chen et al., ICML 2020), small enough for a few minutes of a CPU.

Two random views of each image should have like features, all other images' views unlike ones (NT-Xent): with unit
projections z of the 2B views and temperature tau,

    l(i, j) = -log softmax over k != i of (z_i . z_k / tau) at j,   j the other view of i.

The recipe is BadEncoder's for 32-pixel images: projector D-D-128 with BatchNorm and ReLU, Adam, tau = 0.5.

Deviations: steps instead of epochs; a short warm-up and cosine decay, which a budget of minutes needs; the views are
batched tensor operations (``core.images.augment``).
"""

from __future__ import annotations

import copy
import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from core.config import MethodConfig
from core.device import mixed_precision
from core.images.augment import ColourJitter, jitter_colours, random_flip, random_resized_crop
from core.random import batch_indices, generator
from core.run import Run
from core.training.finite import require_finite
from core.training.initialise import initialise
from core.training.state import TrainingState
from core.types import Encoder, Images, ImageSet

_STAGE = "train encoder"
_WARM_UP = 0.05  # of all steps


class SimclrConfig(MethodConfig):
    """Parameters of SimCLR's training."""

    steps: int = Field(1000, ge=1, description="Optimisation steps. BadEncoder: 1000 epochs of 50,000 images.")
    batch_size: int = Field(256, ge=2, description="Images per step, two views each. BadEncoder: 256.")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's peak learning rate. BadEncoder: 1e-3, constant.")
    weight_decay: float = Field(1e-6, ge=0, description="Adam's weight decay. BadEncoder: 1e-6.")
    temperature: float = Field(0.5, gt=0, description="tau of NT-Xent. BadEncoder and CTRL: 0.5.")
    projection_dim: int = Field(128, ge=2, description="Dimension of z. BadEncoder: 128.")
    smallest_crop: float = Field(0.2, gt=0, le=1, description="Least area of a crop. BadEncoder: 0.08; CTRL: 0.2.")


def pretrain(encoder: Encoder, images: ImageSet, config: SimclrConfig, run: Run, *, seed: int) -> Encoder:
    """A copy of ``encoder``, trained on ``images`` from the weights it has; the one that was given is unchanged.

    Raises:
        AuditFailed: the loss became NaN or infinite.
    """
    student = copy.deepcopy(encoder).to(memory_format=torch.channels_last).train()
    projector = projection_head(encoder.feature_dim, config.projection_dim, seed).to(encoder.device).train()
    parameters = [*student.parameters(), *projector.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    state = TrainingState({"student": student, "projector": projector}, optimiser)
    for step in run.steps(_STAGE, config.steps, state=state):
        batch = images.batch(batch_indices(len(images), config.batch_size, seed, _STAGE, step), encoder.device)
        views = two_views(batch, generator(seed, _STAGE, "views", step), config.smallest_crop)
        with mixed_precision(encoder.device):
            projections = projector(student(views.contiguous(memory_format=torch.channels_last)))
        loss = nt_xent(projections.float(), config.temperature)
        require_finite(loss, step)
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * schedule(step, config.steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        run.log(loss=float(loss.detach()))
    return student.eval()


def nt_xent(projections: Tensor, temperature: float) -> Tensor:
    """NT-Xent of ``[2B, d]`` projections, rows i and B + i being the two views of one image; a scalar."""
    unit = functional.normalize(projections, dim=1)
    similarity = unit @ unit.T / temperature
    similarity = similarity.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), -math.inf)
    positive = torch.arange(len(unit), device=unit.device).roll(len(unit) // 2)
    return functional.cross_entropy(similarity, positive)


def two_views(images: Images, random: torch.Generator, smallest_crop: float) -> Images:
    """Two random views of each image, ``[2B, 3, H, W]``: crop, mirror, colour jitter, sometimes grey."""
    doubled = torch.cat([images, images])
    cropped = random_resized_crop(doubled, random, scale=(smallest_crop, 1.0))
    return jitter_colours(random_flip(cropped, random), random, ColourJitter())


def projection_head(feature_dim: int, projection_dim: int, seed: int) -> nn.Sequential:
    """SimCLR's projector: linear, BatchNorm, ReLU, linear."""
    head = nn.Sequential(
        nn.Linear(feature_dim, feature_dim, bias=False),
        nn.BatchNorm1d(feature_dim),
        nn.ReLU(),
        nn.Linear(feature_dim, projection_dim),
    )
    initialise(head, seed, "projector")
    return head


def schedule(step: int, steps: int) -> float:
    """The learning rate's factor at ``step``: linear warm-up, then a cosine down to nearly 0."""
    warm_up = max(1, round(_WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
