"""The clustering model C (PoisonCAM Eq. 1) and the flip set that is chosen with it (Sec. IV-C)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.ops.kmeans import assign, kmeans
from core.run import Run, StateDict
from core.types import Features

STAGE = "cluster"
IMAGES_PER_CLUSTER = 128
"""The paper's ImageNet-100 has 127 images to a cluster."""


@dataclass(frozen=True)
class Clustering:
    """``centroids`` ``[l, D]`` of unit features; ``labels`` and ``distances`` ``[N]`` of the images, all fp32/int64 on
    the encoder's device. Fit and query measure the Euclidean distance of unit features."""

    centroids: Features
    labels: Tensor
    distances: Tensor

    def __len__(self) -> int:
        return len(self.centroids)

    def members(self, cluster: int) -> Tensor:
        """Indices of a cluster's images, 1-D int64 on the CPU."""
        return (self.labels == cluster).nonzero().flatten().cpu()

    def nearest(self, count: int) -> Tensor:
        """Indices of ``count`` images: of each cluster the nearest to its centroid, then of each the second, ..."""
        order = torch.argsort(self.distances, stable=True)
        order = order[torch.argsort(self.labels[order], stable=True)]
        sizes = torch.bincount(self.labels, minlength=len(self))
        starts = sizes.cumsum(0) - sizes
        rank = torch.arange(len(order), device=order.device) - starts[self.labels[order]]
        return order[torch.argsort(rank, stable=True)][:count].cpu()


def find_clusters(features: Features, clusters: int | None, run: Run, *, iterations: int, seed: int) -> Features:
    """Centroids ``[l, D]`` of unit ``features`` ``[N, D]``; ``clusters`` None: one per :data:`IMAGES_PER_CLUSTER`.

    They are kept as the stage's state: all that follows refers to them, on another machine after a crash as well.
    """
    count = clusters or usual_clusters(len(features))
    found = _Centroids()
    for _ in run.steps(STAGE, 1, state=found):
        found.value = kmeans(features, min(count, len(features)), iterations=iterations, seed=seed)
    return found.value.to(features)


def usual_clusters(images: int) -> int:
    """How many clusters so many images form where nobody says."""
    return min(1000, max(10, images // IMAGES_PER_CLUSTER))


def clusters_of(features: Features, centroids: Features) -> Clustering:
    """The clustering of unit ``features`` ``[N, D]`` by ``centroids`` ``[l, D]``."""
    return Clustering(centroids, *assign(features, centroids))


class _Centroids:
    def __init__(self) -> None:
        self.value = torch.empty(0)

    def state_dict(self) -> StateDict:
        return {"centroids": self.value}

    def load_state_dict(self, state: Any) -> None:
        self.value = state["centroids"]
