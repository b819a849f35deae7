"""The nouns every part of ``core`` shares.

Images are RGB, float, in [0, 1], **not** normalised, always; an :class:`Encoder` applies its own mean and standard
deviation. Ground truth (labels, the attacker's trigger, the target class) has no type here on purpose: it lives in
``core.attacks`` and ``core.evaluation``, which no defence may import.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

import torch
from torch import Tensor, nn

from core.device import to_device

Images: TypeAlias = Tensor
"""``[B, 3, H, W]`` float in [0, 1], RGB, not normalised."""

Features: TypeAlias = Tensor
"""``[B, D]`` float: what an encoder returns, not L2-normalised."""


class Verdict(StrEnum):
    """What an audit concludes: an encoder is backdoored, a set of images is poisoned, either is clean.
    ``inconclusive`` is never to be read as ``clean``."""

    BACKDOORED = "backdoored"
    POISONED = "poisoned"
    CLEAN = "clean"
    INCONCLUSIVE = "inconclusive"


class Trigger(Protocol):
    """The attacker's change to an image, ``Mix(x, D)`` in SSLDefender Eq. 1."""

    def __call__(self, images: Images) -> Images:
        """Stamp the trigger on ``images`` ``[B, 3, H, W]``; returns new images in [0, 1]."""
        ...

    def area(self) -> float:
        """Fraction of the image's pixels that the trigger changes, in [0, 1]."""
        ...


class Encoder(nn.Module):
    """An image encoder as the auditor sees it: pixels in, features out.

    ``backbone`` is the network without projection or classification head. Normalisation belongs to the encoder, so
    that every trigger lives in pixel space and nobody normalises twice. ``architecture`` is the card's name for the
    backbone (``torchvision/resnet18``), None where there is no card: encoders are compared within a family.

    Shapes: ``forward`` maps images ``[B, 3, H, W]`` in [0, 1] to features ``[B, D]``.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        name: str,
        image_size: tuple[int, int],
        feature_dim: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        architecture: str | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.name = name
        self.image_size = image_size
        self.feature_dim = feature_dim
        self.architecture = architecture
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are; algorithms follow it and take no ``device`` argument."""
        return self.mean.device

    def forward(self, images: Images) -> Features:
        features: Tensor = self.backbone((images - self.mean) / self.std)
        return features


@dataclass(frozen=True)
class RejectedImage:
    """An image that could not be used, and why; counted and named in the report."""

    name: str
    reason: str


@dataclass(frozen=True)
class ImageSet:
    """Unlabelled images, already at the encoder's input size, held in memory as bytes.

    ``pixels`` is ``[N, 3, H, W]`` uint8 on the CPU; ``names`` are the paths inside the archive or folder. A defence
    must not read a class out of a name. ``digest`` is the SHA-256 over names and decoded pixels. ``repeated`` counts
    the images whose pixels are those of an earlier one. ``notes`` are sentences on how the set was read, for its owner.
    """

    pixels: Tensor
    names: tuple[str, ...]
    digest: str
    rejected: tuple[RejectedImage, ...] = ()
    repeated: int = 0
    notes: tuple[str, ...] = ()

    @property
    def distinct(self) -> int:
        """How many different images there are."""
        return len(self) - self.repeated

    def __len__(self) -> int:
        return len(self.names)

    def batch(self, indices: Tensor | slice, device: torch.device | str = "cpu") -> Images:
        """The chosen images as float in [0, 1], ``[B, 3, H, W]``, on ``device``."""
        return to_device(self.pixels[indices], device).float().div_(255)

    def subset(self, indices: Tensor) -> ImageSet:
        """The images at ``indices`` (1-D int64) as a set of their own; the digest names the parent and the choice."""
        chosen = indices.tolist()
        names = tuple(self.names[i] for i in chosen)
        digest = hashlib.sha256((self.digest + ":" + ",".join(map(str, chosen))).encode()).hexdigest()
        return ImageSet(self.pixels[indices], names, digest)
