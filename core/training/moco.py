"""MoCo v2: contrast a query with its own key and a queue of earlier keys (He et al., CVPR 2020; Chen et al., 2020).

Keys come from a momentum copy of the encoder; l = -log softmax over {own key, queue} of (q . k / tau) at the own key.

Deviations: ``batch_norm_groups`` replaces ShuffleBN, which exists on several GPUs only: keys are normalised in random
groups, so that a query's batch statistics tell nothing of its key. The queue is short by default (small sets).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from core.device import mixed_precision, to_device
from core.training.config import TrainingConfig
from core.training.cut_mix import Mixture, compare_mixed
from core.training.heads import ProjectionHead
from core.training.key_queue import KeyQueue
from core.training.objective import Objective, follow, momentum_copy, seeded
from core.types import Encoder, Images


class MocoConfig(TrainingConfig):
    """Parameters of MoCo v2; the defaults suit images of 32 pixels and a training of minutes."""

    epochs: float = Field(30, gt=0, description="Passes over the images. SSL-Backdoor: 200.")
    optimiser: Literal["adam", "adamw", "sgd"] = Field("adam", description="SSL-Backdoor: SGD.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate. SSL-Backdoor: 0.06 with SGD.")
    temperature: float = Field(0.2, gt=0, description="tau. MoCo v2 and SSL-Backdoor: 0.2.")
    key_momentum: float = Field(0.99, ge=0, lt=1, description="m of the key encoder. Official, many steps: 0.999.")
    queue: int = Field(4096, ge=2, description="Keys in the queue. Official: 65536, more than a small set's images.")
    projection_dim: int = Field(128, ge=2, description="Dimension of queries and keys. Official: 128.")
    batch_norm_groups: int = Field(4, ge=1, description="Random groups in which keys are normalised; 1 leaks.")

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "ssl-backdoor": {
                "epochs": 200,
                "optimiser": "sgd",
                "learning_rate": 0.06,
                "weight_decay": 1e-4,
                "warm_up": 0.0,
                "key_momentum": 0.999,
                "queue": 65536,
                "blur_probability": (0.5, 0.5),
            },
            "96px": {"epochs": 100, "queue": 16384, "blur_probability": (0.5, 0.5)},
            "cifar": {
                "epochs": 1000,
                "optimiser": "sgd",
                "learning_rate": 0.06,
                "weight_decay": 5e-4,
                "warm_up": 0.01,
            },
        }
    )


class Moco(Objective):
    """MoCo's query encoder (the student), key encoder and queue."""

    def __init__(self, student: Encoder, config: MocoConfig, *, seed: int) -> None:
        super().__init__(student)
        self._config = config
        dim = student.feature_dim
        self.projector = seeded(lambda: ProjectionHead(dim, config.projection_dim, batch_norm=False), seed, "projector")
        self.key_encoder, self.key_projector = momentum_copy(student), momentum_copy(self.projector)
        self.queue: KeyQueue = seeded(lambda: KeyQueue(config.queue, config.projection_dim), seed, "queue")

    def forward(self, first: Images, second: Images, mixture: Mixture | None, random: torch.Generator) -> Tensor:
        with mixed_precision(first.device, self):
            queries = self.projector(self.student(first.contiguous(memory_format=torch.channels_last)))
        queries = functional.normalize(queries.float(), dim=1)
        keys = self._keys(second, random)
        negatives = self.queue.negatives()
        self.queue.push(keys)

        def compare(queries: Tensor, keys: Tensor) -> Tensor:
            return info_nce(queries, keys, negatives, self._config.temperature)

        return compare_mixed(compare, queries, keys, mixture)

    def after_step(self, progress: float) -> None:
        follow(self.key_encoder, self.student, self._config.key_momentum)
        follow(self.key_projector, self.projector, self._config.key_momentum)

    def get_extra_state(self) -> dict[str, Tensor]:
        """The queue: it is no part of the state dict, and a resumed run needs it."""
        return {name: self.queue.get_buffer(name) for name in ("bank", "bank_ptr")}

    @torch.no_grad()
    def set_extra_state(self, state: Mapping[str, Tensor]) -> None:
        for name, value in state.items():
            self.queue.get_buffer(name).copy_(value)

    @torch.no_grad()
    def _keys(self, images: Images, random: torch.Generator) -> Tensor:
        """Unit keys ``[B, d]``, each normalised with the batch statistics of the random group it falls into."""
        order = to_device(torch.randperm(len(images), generator=random), images.device)
        groups = images[order].chunk(min(self._config.batch_norm_groups, max(1, len(images) // 2)))
        with mixed_precision(images.device, self):
            keys = [
                self.key_projector(self.key_encoder(group.contiguous(memory_format=torch.channels_last)))
                for group in groups
            ]
        return functional.normalize(torch.cat(keys).float()[order.argsort()], dim=1)


def info_nce(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """InfoNCE of unit ``queries`` and ``keys`` ``[B, d]`` against ``negatives`` ``[d, K]`` (MoCo, Eq. 1); a scalar."""
    positive = (queries * keys).sum(1, keepdim=True)
    logits = torch.cat([positive, queries @ negatives], dim=1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(queries), dtype=torch.int64, device=queries.device))
