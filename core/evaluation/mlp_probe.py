"""BadEncoder's downstream classifier: a small MLP on L2-normalised features.

512 - ReLU - dropout 0.5 - 256 - ReLU - classes, cross-entropy, Adam. The authors take their reported numbers from it
and use nearest neighbours as a monitor only.

Deviations: the images are shuffled in every epoch (the official loader takes them in file order, class after class);
larger batches and steps for fewer epochs (``OFFICIAL`` has the published numbers; ``docs/evaluation.md`` compares the
two); a floor to the number of steps, without which a small set would end half fitted; He-normal weights; every random
number comes from the seed.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from core.config import MethodConfig
from core.random import generator
from core.run import Run
from core.training.finite import require_finite
from core.training.state import TrainingState
from core.types import Features

_STAGE = "fit mlp probe"
_HIDDEN = (512, 256)
_DROPPED = 0.5


class MlpProbeConfig(MethodConfig):
    """Parameters of the MLP probe."""

    epochs: int = Field(40, ge=1, description="Passes over the training images. BadEncoder: 500.")
    batch_size: int = Field(256, ge=1, description="Images per step. BadEncoder: 64.")
    least_steps: int = Field(
        1600, ge=1, description="Steps below which epochs are added, for small sets. BadEncoder: no such floor."
    )
    learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate, constant. BadEncoder: 1e-4.")


OFFICIAL = MlpProbeConfig(epochs=500, batch_size=64, least_steps=1, learning_rate=1e-4)
"""BadEncoder's numbers: on 10,000 images 50 times the steps of the default."""


class MlpProbe(nn.Module):
    """A classifier of unit features ``[B, D]``. Dropout is given its random numbers; without them there is none."""

    def __init__(self, dimension: int, classes: int, random: torch.Generator) -> None:
        super().__init__()
        self.first = nn.Linear(dimension, _HIDDEN[0])
        self.second = nn.Linear(*_HIDDEN)
        self.last = nn.Linear(_HIDDEN[1], classes)
        for layer in (self.first, self.second, self.last):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=random)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Features, random: torch.Generator | None = None) -> Tensor:
        """Logits ``[B, C]``; with ``random``, half of the first hidden layer is dropped."""
        hidden = functional.relu(self.first(features))
        if random is not None:
            kept = torch.rand(hidden.shape, generator=random) >= _DROPPED
            hidden = hidden * kept.to(hidden.device) / (1 - _DROPPED)
        logits: Tensor = self.last(functional.relu(self.second(hidden)))
        return logits

    @torch.no_grad()
    def predict(self, features: Features) -> Tensor:
        """Classes, ``[B]`` int64."""
        return self(features).argmax(1)  # type: ignore[no-any-return]


def fit_mlp_probe(
    features: Features, labels: Tensor, classes: int, config: MlpProbeConfig, run: Run, *, seed: int
) -> MlpProbe:
    """Fit to unit ``features`` ``[N, D]`` and ``labels`` ``[N]``; the last epoch's weights, as in BadEncoder.

    Raises:
        AuditFailed: the loss became NaN or infinite.
    """
    probe = MlpProbe(features.shape[1], classes, generator(seed, _STAGE)).to(features.device)
    steps_per_epoch = math.ceil(len(labels) / config.batch_size)
    epochs = max(config.epochs, math.ceil(config.least_steps / steps_per_epoch))
    state = TrainingState({"probe": probe}, torch.optim.Adam(probe.parameters(), lr=config.learning_rate))
    for epoch in run.steps(_STAGE, epochs, state=state):
        random = generator(seed, _STAGE, epoch)
        with torch.enable_grad():
            for batch in torch.randperm(len(labels), generator=random).to(features.device).split(config.batch_size):
                loss = functional.cross_entropy(probe(features[batch], random), labels[batch])
                state.optimiser.zero_grad()
                loss.backward()
                state.optimiser.step()
        run.log(loss=require_finite(loss, epoch))
    return probe
