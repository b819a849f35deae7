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
    """Centroids ``[clusters, D]`` of ``points`` ``[N, D]`` after Lloyd's iterations from the start of k-means++.

    A cluster that loses all its points starts again at one of the points that lie furthest from their centroid: an
    empty cluster would otherwise stay empty for ever, and two groups share one centroid.

    Raises:
        ValueError: more clusters than points.
    """
    if not 0 < clusters <= len(points):
        raise ValueError(f"{clusters} clusters of {len(points)} points")
    centroids = _spread_start(points, clusters, seed)
    for _ in range(iterations):
        labels, distances = assign(points, centroids)
        sums, counts = _cluster_sums(points, labels, clusters)
        furthest = distances.topk(clusters).indices
        empty = counts == 0
        # The i-th empty cluster takes the i-th furthest point; no empty cluster is the usual case and needs no branch.
        replacement = points[furthest[(empty.cumsum(0) - 1).clamp_min(0)]]
        centroids = torch.where(empty[:, None], replacement, sums / counts.clamp_min(1)[:, None])
    return centroids


def _spread_start(points: Tensor, clusters: int, seed: int) -> Tensor:
    """``[clusters, D]``: points drawn one by one with a chance proportional to the squared distance to those drawn
    before (Arthur and Vassilvitskii, 2007). A small tight group far from all others, as poisoned images form, is then
    seldom left without a centroid.

    Drawn as a race: the smallest of exponential times, each divided by its weight. Unlike a search in a running sum
    this has the same winner on every device, and nothing waits for the device.
    """
    first = torch.randint(len(points), (1,), generator=generator(seed, "k-means start")).to(points.device)
    chosen = [points.index_select(0, first)[0]]
    nearest = (points - chosen[0]).square().sum(1)
    for number in range(1, clusters):
        times = torch.empty(len(points)).exponential_(generator=generator(seed, "k-means start", number))
        winner = (times.to(points.device).clamp_min(1e-9) / nearest).argmin()
        # Not points[winner]: that would wait for the index to reach the CPU.
        chosen.append(points.index_select(0, winner.view(1))[0])
        nearest = torch.minimum(nearest, (points - chosen[-1]).square().sum(1))
    return torch.stack(chosen)


def _cluster_sums(points: Tensor, labels: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Sum ``[K, D]`` and number ``[K]`` of each cluster's members."""
    sums = torch.zeros(clusters, points.shape[1], device=points.device)
    counts = torch.zeros(clusters, device=points.device)
    for part, label in zip(points.split(_CHUNK), labels.split(_CHUNK), strict=True):
        members = functional.one_hot(label, clusters).to(points.dtype)
        sums += members.T @ part
        counts += members.sum(0)
    return sums, counts
