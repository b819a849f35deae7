"""BYOL: predict the projection that a momentum copy gives of the other view (Grill et al., NeurIPS 2020).

l = 2 - 2 cos(predictor(projector(f(v))), target(v')), summed over both orders of the two views; no negatives. Heads and
cosine are lightly's.

Deviations: running statistics of the target's BatchNorm come from its own batches (official code leaves them unsaid:
SSL-Backdoor moves parameters only, as here). SSL-Backdoor's two drops of the rate at the end are a cosine here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from core.device import mixed_precision
from core.training.config import TrainingConfig
from core.training.cut_mix import Mixture, compare_mixed
from core.training.moco_v3 import rising_momentum
from core.training.objective import Objective, follow, momentum_copy, seeded
from core.types import Encoder, Images


class ByolConfig(TrainingConfig):
    """Parameters of BYOL; the defaults suit images of 32 pixels and a training of minutes."""

    epochs: float = Field(30, gt=0, description="Passes over the images. SSL-Backdoor: 200.")
    optimiser: Literal["adam", "adamw", "sgd"] = Field("adam", description="SSL-Backdoor: Adam.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate. SSL-Backdoor: 2e-3.")
    target_momentum: float = Field(0.98, ge=0, lt=1, description="m, rising to 1 by a cosine. SSL-Backdoor: 0.99.")
    hidden_dim: int = Field(1024, ge=2, description="Width of projector and predictor. SSL-Backdoor: 1024.")
    projection_dim: int = Field(128, ge=2, description="Dimension of the projections. SSL-Backdoor: 128.")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "ssl-backdoor": {
                "epochs": 200,
                "batch_size": 512,
                "learning_rate": 2e-3,
                "target_momentum": 0.99,
                "grey_probability": 0.1,
            },
            "96px": {"epochs": 100, "smallest_crop": 0.08, "blur_probability": (1.0, 0.1), "target_momentum": 0.99},
            "ctrl": {
                "epochs": 800,
                "batch_size": 512,
                "optimiser": "sgd",
                "learning_rate": 0.06,
                "weight_decay": 5e-4,
                "target_momentum": 0.996,
                "hidden_dim": 2048,
                "projection_dim": 256,
                "warm_up": 0.0125,
            },
        }
    )


class Byol(Objective):
    """BYOL's online network (student, projector, predictor) and its target."""

    def __init__(self, student: Encoder, config: ByolConfig, *, seed: int) -> None:
        # Where they are used: lightly imports torchvision, and with it torch's compiler, which takes seconds.
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead

        super().__init__(student)
        self._config = config
        dim, hidden, out = student.feature_dim, config.hidden_dim, config.projection_dim
        self.projector = seeded(lambda: BYOLProjectionHead(dim, hidden, out), seed, "projector")
        self.predictor = seeded(lambda: BYOLPredictionHead(out, hidden, out), seed, "predictor")
        self.target_encoder, self.target_projector = momentum_copy(student), momentum_copy(self.projector)
        self._negative_cosine = NegativeCosineSimilarity()

    def forward(self, first: Images, second: Images, mixture: Mixture | None, random: torch.Generator) -> Tensor:
        with mixed_precision(first.device, self):
            both = torch.cat([first, second]).contiguous(memory_format=torch.channels_last)
            predictions = self.predictor(self.projector(self.student(both))).float()
            with torch.no_grad():
                targets = self.target_projector(
                    self.target_encoder(both if mixture is None else both[len(first) :])
                ).float()
        if mixture is not None:
            return 2 * compare_mixed(self._distance, predictions[: len(first)], targets, mixture)
        (prediction_1, prediction_2), (target_1, target_2) = predictions.chunk(2), targets.chunk(2)
        return self._distance(prediction_1, target_2) + self._distance(prediction_2, target_1)

    def after_step(self, progress: float) -> None:
        momentum = rising_momentum(self._config.target_momentum, progress)
        follow(self.target_encoder, self.student, momentum)
        follow(self.target_projector, self.projector, momentum)

    def _distance(self, predictions: Tensor, targets: Tensor) -> Tensor:
        distance: Tensor = 2 + 2 * self._negative_cosine(predictions, targets)
        return distance
