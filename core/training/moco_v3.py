"""MoCo v3: MoCo without a queue, for vision transformers too (Chen, Xie and He, ICCV 2021).

Queries pass a predictor; keys come from a momentum copy; the negatives are the other keys of the batch:
l(q, k) = 2 tau CE(q k' / tau), summed over both orders of the two views. Heads are lightly's.

Deviations: of "stop-grad conv1" the patch embedding is frozen where there is one (``freeze_patch_embedding``), but
position embeddings are learnt as the architecture has them, not fixed sine-cosine. BatchNorm in heads keeps its affine
weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from core.device import mixed_precision
from core.training.config import TrainingConfig
from core.training.cut_mix import Mixture, compare_mixed
from core.training.objective import Objective, follow, momentum_copy, seeded
from core.training.parallel import world_size
from core.types import Encoder, Images


class MocoV3Config(TrainingConfig):
    """Parameters of MoCo v3; the defaults suit images of 32 pixels and a training of minutes."""

    epochs: float = Field(30, gt=0, description="Passes over the images. PatchSearch, ImageNet-100: 200.")
    optimiser: Literal["adam", "adamw", "sgd"] = Field("adamw", description="Official: AdamW.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak rate. Official: 1.5e-4 * batch / 256 for ViT.")
    weight_decay: float = Field(1e-4, ge=0, description="AdamW's weight decay. Official: 0.1.")
    temperature: float = Field(0.2, gt=0, description="tau. Official: 0.2.")
    key_momentum: float = Field(0.99, ge=0, lt=1, description="m, rising to 1 by a cosine. Official: 0.99.")
    hidden_dim: int = Field(1024, ge=2, description="Width of projector and predictor. Official: 4096.")
    projection_dim: int = Field(256, ge=2, description="Dimension of queries and keys. Official: 256.")
    freeze_patch_embedding: bool = Field(
        True, description="Keep a ViT's patch embedding as initialised. Official: yes."
    )

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "96px": {"epochs": 100, "smallest_crop": 0.08, "blur_probability": (1.0, 0.1), "hidden_dim": 2048},
            "patchsearch": {
                "epochs": 200,
                "batch_size": 1024,
                "learning_rate": 6e-4,
                "weight_decay": 0.1,
                "warm_up": 0.2,
                "hidden_dim": 4096,
                "smallest_crop": 0.08,
                "jitter": (0.4, 0.4, 0.2, 0.1),
                "blur_probability": (1.0, 0.1),
                "solarise_probability": (0.0, 0.2),
                "cut_mix": True,
            },
        }
    )


class MocoV3(Objective):
    """MoCo v3's student with projector and predictor, and the momentum copy of the first two."""

    def __init__(self, student: Encoder, config: MocoV3Config, *, seed: int) -> None:
        # Where it is used: lightly imports torchvision, and with it torch's compiler, which takes seconds.
        from lightly.models.modules.heads import MoCoProjectionHead

        super().__init__(student)
        self._config = config
        dim, hidden, out = student.feature_dim, config.hidden_dim, config.projection_dim
        layers = 3 if patch_embedding(student) is not None else 2
        self.projector = seeded(lambda: MoCoProjectionHead(dim, hidden, out, layers, True), seed, "projector")
        self.predictor = seeded(lambda: MoCoProjectionHead(out, hidden, out, 2, True), seed, "predictor")
        if config.freeze_patch_embedding and (embedding := patch_embedding(student)) is not None:
            embedding.requires_grad_(False)
        self.key_encoder, self.key_projector = momentum_copy(student), momentum_copy(self.projector)

    def forward(self, first: Images, second: Images, mixture: Mixture | None, random: torch.Generator) -> Tensor:
        # The second views are queries too; of a mixture only the first are mixed, and its keys come from the second.
        with mixed_precision(first.device, self):
            both = torch.cat([first, second]).contiguous(memory_format=torch.channels_last)
            queries = self.predictor(self.projector(self.student(both)))
            with torch.no_grad():
                keys = self.key_projector(self.key_encoder(both if mixture is None else both[len(first) :]))
        unit_queries = functional.normalize(queries.float(), dim=1)
        unit_keys = functional.normalize(keys.float(), dim=1)
        if mixture is not None:
            return 2 * compare_mixed(self._contrast, unit_queries[: len(first)], unit_keys, mixture)
        (query_1, query_2), (key_1, key_2) = unit_queries.chunk(2), unit_keys.chunk(2)
        return self._contrast(query_1, key_2) + self._contrast(query_2, key_1)

    def after_step(self, progress: float) -> None:
        momentum = rising_momentum(self._config.key_momentum, progress)
        follow(self.key_encoder, self.student, momentum)
        follow(self.key_projector, self.projector, momentum)

    def _contrast(self, queries: Tensor, keys: Tensor) -> Tensor:
        everyone, own = keys, torch.arange(len(queries), device=queries.device)
        if world_size() > 1:
            from lightly.models import utils as lightly_utils
            from lightly.utils import dist

            everyone, own = lightly_utils.concat_all_gather(keys), own + dist.rank() * len(queries)
        logits = queries @ everyone.T / self._config.temperature
        return 2 * self._config.temperature * functional.cross_entropy(logits, own)


def rising_momentum(base: float, progress: float) -> float:
    """The momentum after a share ``progress`` of the training: from ``base`` up to 1 by a cosine."""
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2


def patch_embedding(encoder: Encoder) -> nn.Module | None:
    """The patch embedding of a vision transformer of timm's or torchvision's; None of anything else."""
    found = getattr(encoder.backbone, "patch_embed", None) or getattr(encoder.backbone, "conv_proj", None)
    return found if isinstance(found, nn.Module) else None
