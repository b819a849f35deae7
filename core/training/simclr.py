"""SimCLR: train an encoder without labels (Chen et al., ICML 2020).

Two random views of each image should have like features, all other images' views unlike ones: NT-Xent over the
projections of the 2B views of a batch, temperature tau -> ``temperature``; with several processes over the views of
all of them.

Deviations: a warm-up and a cosine decay, which a short training needs, where BadEncoder keeps its rate constant for
1000 epochs (the preset ``badencoder`` restores that); CTRL's loss is multiplied by 7.14 in its code, which its learning
rate here includes.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from core.device import mixed_precision
from core.ops.nt_xent import nt_xent
from core.training.config import TrainingConfig
from core.training.cut_mix import Mixture, compare_mixed
from core.training.heads import ProjectionHead
from core.training.objective import Objective, seeded
from core.training.parallel import gathered
from core.types import Encoder, Images


class SimclrConfig(TrainingConfig):
    """Parameters of SimCLR; the defaults suit images of 32 pixels and a training of minutes."""

    epochs: float = Field(30, gt=0, description="Passes over the images. BadEncoder: 1000; CTRL: 800.")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's peak learning rate. BadEncoder: 1e-3, constant.")
    optimiser: Literal["adam", "adamw", "sgd"] = Field("adam", description="BadEncoder: Adam; CTRL: SGD.")
    temperature: float = Field(0.5, gt=0, description="tau of NT-Xent. BadEncoder and CTRL: 0.5.")
    projection_dim: int = Field(128, ge=2, description="Dimension of the projections. BadEncoder and CTRL: 128.")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "badencoder": {"epochs": 1000, "smallest_crop": 0.08, "schedule": "constant", "warm_up": 0.0},
            "ctrl": {
                "epochs": 800,
                "batch_size": 512,
                "optimiser": "sgd",
                "learning_rate": 0.43,
                "weight_decay": 5e-4,
                "warm_up": 0.0125,
            },
            "96px": {"epochs": 100, "smallest_crop": 0.08, "blur_probability": (0.5, 0.5)},
            "224px": {
                "epochs": 200,
                "optimiser": "sgd",
                "learning_rate": 0.3,
                "weight_decay": 1e-4,
                "smallest_crop": 0.08,
                "blur_probability": (0.5, 0.5),
                "temperature": 0.1,
            },
        }
    )


class Simclr(Objective):
    """SimCLR's student, projector and loss."""

    def __init__(self, student: Encoder, config: SimclrConfig, *, seed: int) -> None:
        super().__init__(student)
        self._temperature = config.temperature
        dim = student.feature_dim
        self.projector = seeded(lambda: ProjectionHead(dim, config.projection_dim, batch_norm=True), seed, "projector")

    def forward(self, first: Images, second: Images, mixture: Mixture | None, random: torch.Generator) -> Tensor:
        views = torch.cat([first, second]).contiguous(memory_format=torch.channels_last)
        with mixed_precision(views.device, self):
            projections = self.projector(self.student(views))
        queries, keys = projections.float().chunk(2)
        return compare_mixed(self._compare, queries, keys, mixture)

    def _compare(self, queries: Tensor, keys: Tensor) -> Tensor:
        # Every process computes the loss of all views: averaged over the processes, its gradient is that of one batch.
        return nt_xent(torch.cat([gathered(queries), gathered(keys)]), self._temperature)
