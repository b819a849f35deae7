"""k-means (Lloyd) as matrix products on the device of its input: no library of its own, no random order of sums.

Everything is fp32. Sums over a cluster's members are products with a one-hot matrix, not scattered additions: those
have no fixed order on a GPU, and a resumed run must find the clusters that the unbroken one found.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from core.random import generator

_CHUNK = 8192


def assign(points: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid of each point: its index ``[N]`` int64, and the Euclidean distance to it ``[N]``.

    ``points`` is ``[N, D]``, ``centroids`` ``[K, D]``, both fp32. Ties go to the lowest index.
    """
    labels, distances = [], []
    half_norms = centroids.square().sum(1) / 2
    for part in points.split(_CHUNK):
        # |p - c|^2 / 2 without its |p|^2 / 2, which is the same for all centroids.
        nearness, label = (part @ centroids.T - half_norms).max(1)
        squared = part.square().sum(1) - 2 * nearness
        labels.append(label)
        distances.append(squared.clamp_min(0).sqrt())
    return torch.cat(labels), torch.cat(distances)


def kmeans(points: Tensor, clusters: int, *, iterations: int, seed: int) -> Tensor:
    """Centroids ``[clusters, D]`` of ``points`` ``[N, D]`` after Lloyd's iterations from distinct random points.

    A cluster that loses all its points starts again at one of the points that lie furthest from their centroid: an
    empty cluster would otherwise stay empty for ever, and two groups share one centroid.

    Raises:
        ValueError: more clusters than points.
    """
    if not 0 < clusters <= len(points):
        raise ValueError(f"{clusters} clusters of {len(points)} points")
    start = torch.randperm(len(points), generator=generator(seed, "k-means"))[:clusters]
    centroids = points[start.to(points.device)].clone()
    for _ in range(iterations):
        labels, distances = assign(points, centroids)
        sums, counts = _cluster_sums(points, labels, clusters)
        furthest = distances.topk(clusters).indices
        empty = counts == 0
        # The i-th empty cluster takes the i-th furthest point; no empty cluster is the usual case and needs no branch.
        replacement = points[furthest[(empty.cumsum(0) - 1).clamp_min(0)]]
        centroids = torch.where(empty[:, None], replacement, sums / counts.clamp_min(1)[:, None])
    return centroids


def _cluster_sums(points: Tensor, labels: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Sum ``[K, D]`` and number ``[K]`` of each cluster's members."""
    sums = torch.zeros(clusters, points.shape[1], device=points.device)
    counts = torch.zeros(clusters, device=points.device)
    for part, label in zip(points.split(_CHUNK), labels.split(_CHUNK), strict=True):
        members = functional.one_hot(label, clusters).to(points.dtype)
        sums += members.T @ part
        counts += members.sum(0)
    return sums, counts
