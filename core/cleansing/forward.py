"""How cleansing looks at an encoder: weights frozen, unit features, bf16 only where it changes no cluster."""

from __future__ import annotations

import copy

import torch

from core.device import fast_bf16, mixed_precision
from core.errors import AuditFailed
from core.micro_batches import room
from core.ops.cosine import unit
from core.ops.kmeans import assign
from core.run import Run
from core.types import Encoder, Features, Images, ImageSet

STAGE = "features"
SAME_CLUSTER = 0.995
"""Least share of images whose cluster bf16 must leave as it is; otherwise everything runs in fp32."""
COMPARED = 1024
"""At most so many images are read in both precisions."""


class Reader:
    """A frozen copy of an encoder that reads unit features; the caller's encoder stays as it is.

    ``half`` says whether the forward passes run in bf16. Distances and assignments are fp32 always.
    """

    def __init__(self, encoder: Encoder, *, half: bool, batch_size: int) -> None:
        self.encoder = copy.deepcopy(encoder).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.half = half and fast_bf16(encoder.device)
        self.batch_size = batch_size

    @property
    def device(self) -> torch.device:
        return self.encoder.device

    def at_once(self, images: Images, *, learning: bool = False) -> int:
        """How many images of the size of ``images`` pass together: ``batch_size``, or what memory holds."""
        return min(self.batch_size, room(self.encoder, images, learning=learning, half=self.half and not learning))

    @torch.no_grad()
    def raw(self, images: Images) -> Features:
        """Features ``[N, D]`` fp32 of ``images`` ``[N, 3, H, W]``, as many at a time as :meth:`at_once` says."""
        parts = []
        for part in images.split(self.at_once(images)):
            with mixed_precision(self.device, enabled=self.half):
                parts.append(self.encoder(part.contiguous(memory_format=torch.channels_last)).float())
        return torch.cat(parts)

    def unit(self, images: Images) -> Features:
        """:meth:`raw`, L2-normalised."""
        return unit(self.raw(images))


def read_features(reader: Reader, images: ImageSet, run: Run) -> Features:
    """Unit features ``[N, D]`` of all images, on the encoder's device, in the order of the set.

    The stage has no saved state: computing the features again is quicker than storing them.

    Raises:
        AuditFailed: features that are not finite.
    """
    parts = []
    chunks = torch.arange(len(images)).split(reader.batch_size)
    for step in run.steps(STAGE, len(chunks)):
        parts.append(reader.unit(images.batch(chunks[step], reader.device)))
    features = torch.cat(parts)
    if not bool(torch.isfinite(features).all()):
        raise AuditFailed(
            "features_not_finite",
            field="encoder",
            found="features with NaN or infinite values",
            expected="finite features for every image",
            action="Check that mean and std of the card fit the encoder, and that the weights are complete.",
        )
    return features


def agreement_of_halves(reader: Reader, images: ImageSet, centroids: Features, sample: int = COMPARED) -> float:
    """Share of ``sample`` evenly spread images whose nearest centroid is the same in bf16 and in fp32."""
    chosen = torch.linspace(0, len(images) - 1, min(sample, len(images))).long()
    batch = images.batch(chosen, reader.device)
    kept = reader.half
    reader.half = False
    exact = assign(reader.unit(batch), centroids)[0]
    reader.half = kept
    return float((assign(reader.unit(batch), centroids)[0] == exact).float().mean())
