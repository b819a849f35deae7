"""Cluster activation masking: which part of an image holds it in its cluster (PoisonCAM Sec. IV-B, Eq. 2-3).

Symbols: m_j -> ``masks``; eta_j -> ``labels``; eta* -> ``target``; d_j -> ``distances``; a_j -> ``outlier_scores``;
A -> the attention map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.cleansing.forward import Reader
from core.cleansing.masking import Fill, filling
from core.ops.kmeans import assign
from core.types import Features, Images


@dataclass(frozen=True)
class Attention:
    """``maps`` ``[N, H, W]`` fp32, larger where a trigger is likelier; ``targets`` ``[N]``: the cluster whose
    activation they explain, which a candidate's flips are counted into."""

    maps: Tensor
    targets: Tensor


class ActivationMasking:
    """PoisonCAM's localiser. ``masks`` ``[B, H, W]`` bool are shared by all images."""

    def __init__(
        self, reader: Reader, centroids: Features, masks: Tensor, window: int, *, fill: Fill, scale_all: bool
    ) -> None:
        self._reader = reader
        self._centroids = centroids
        self._masks = masks.to(reader.device)
        self._fill: Fill = fill
        self._window = window
        self._scale_all = scale_all

    @torch.no_grad()
    def __call__(self, images: Images) -> Attention:
        """Attention maps of ``images`` ``[N, 3, H, W]``."""
        count, masks = len(images), len(self._masks)
        filled = filling(self._reader.encoder, images, self._fill, self._window).expand_as(images)
        labels, distances = [], []
        together = max(1, self._reader.at_once(images) // masks)
        for image, instead in zip(images.split(together), filled.split(together), strict=True):
            degraded = torch.where(self._masks[None, :, None], instead[:, None], image[:, None])
            label, distance = assign(self._reader.unit(degraded.flatten(0, 1)), self._centroids)
            labels.append(label.view(-1, masks))
            distances.append(distance.view(-1, masks))
        unmasked, _ = assign(self._reader.unit(images), self._centroids)
        label, distance = torch.cat(labels), torch.cat(distances)
        target = most_frequent(label, unmasked, len(self._centroids))
        scores = outlier_scores(label, distance, target, scale_all=self._scale_all)
        assert scores.shape == (count, masks)
        return Attention(attention_maps(scores, self._masks), target)


def most_frequent(labels: Tensor, unmasked: Tensor, clusters: int) -> Tensor:
    """eta*, the cluster most of each image's masked versions fall into, ``[N]``, from ``labels`` ``[N, B]``.

    A tie goes to the cluster of the unmasked image (``[N]``), and without it to the lowest number.
    """
    votes = torch.zeros(len(labels), clusters, device=labels.device)
    votes.scatter_add_(1, labels, torch.ones_like(labels, dtype=votes.dtype))
    votes.scatter_add_(1, unmasked[:, None], torch.full((len(labels), 1), 0.5, device=labels.device))
    return votes.argmax(1)


def outlier_scores(labels: Tensor, distances: Tensor, target: Tensor, *, scale_all: bool = False) -> Tensor:
    """a_j of Eq. 2, ``[N, B]`` in [0, 1]: 1 where masking changed the cluster, else the scaled distance.

    Distances are scaled to [0, 1] over the masks that leave the image in eta*: those of the others are distances to
    other centroids. ``scale_all`` takes the paper's formula literally. Where all distances are equal a_j is 0.
    """
    stays = labels == target[:, None]
    counted = torch.ones_like(stays) if scale_all else stays
    low = distances.masked_fill(~counted, torch.inf).amin(1, keepdim=True)
    high = distances.masked_fill(~counted, -torch.inf).amax(1, keepdim=True)
    span = high - low
    scaled = torch.where(span > 0, (distances - low) / span.clamp_min(1e-12), torch.zeros_like(distances))
    return torch.where(stays, scaled, torch.ones_like(scaled))


def attention_maps(scores: Tensor, masks: Tensor) -> Tensor:
    """A of Eq. 3, ``[N, H, W]``: the mean a_j of the masks over each pixel, from ``scores`` ``[N, B]``.

    One matrix product for all images. A pixel that no mask covers is 0: nothing is known of it.
    """
    flat = masks.flatten(1).to(scores.dtype)
    coverage = flat.sum(0)
    return (scores @ flat / coverage.clamp_min(1)).view(len(scores), *masks.shape[1:])
