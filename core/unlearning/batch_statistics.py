"""BatchNorm's running statistics, taken anew."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn

from core.images.augment import ColourJitter, jitter_colours, random_flip, random_resized_crop
from core.micro_batches import room
from core.types import Encoder, Images
from core.unlearning.utility import UtilityEvaluator

MOST_GAP = 0.1
"""The gap from which on statistics are taken to be others. Measured, on CIFAR-10's encoders: up to .10 with 60 to 500
images of CIFAR-10 or Tiny-ImageNet, from .13 on with traffic signs; on the demo's .04, and .19 once backdoored."""
VIEWS = 4
"""Of each image, for statistics from views."""
_LEAST = 16
"""Images whose statistics, with those of their mirror images, say enough to be averaged."""
SMALLEST_CROP = 0.2
"""Of such a view, as a share of the image's area."""


def statistics_gap(encoder: Encoder, images: Images, evaluator: UtilityEvaluator, batch_size: int) -> float:
    """How far clean features move (1 - mean cosine, on held-back images) once BatchNorm's statistics are those of
    ``images`` ``[N, 3, H, W]``: little where its own are those of such images."""
    copied = copy.deepcopy(encoder).eval()
    clean_statistics(copied, images, batch_size)
    return evaluator.utility(copied).drift


def why_statistics_stay(encoder: Encoder, images: Images, evaluator: UtilityEvaluator, batch_size: int) -> str | None:
    """A sentence for the report where clean ``images`` have other statistics than ``encoder``, so that these must not
    follow them; None where they agree. They differ where images are unlike those that the encoder was trained on, and
    where weights were tuned later with frozen statistics, as by some planted backdoors."""
    gap = statistics_gap(encoder, images, evaluator, batch_size)
    if gap < MOST_GAP:
        return None
    return (
        f"BatchNorm's statistics were left as they are: those of the clean images would move features by {gap:.2f} "
        f"(1 - cosine), where less than {MOST_GAP} is usual. Either the images are unlike those that the encoder was "
        "trained on, or its weights were tuned since its statistics were taken."
    )


@torch.no_grad()
def clean_statistics(encoder: Encoder, images: Images, batch_size: int, views: torch.Generator | None = None) -> None:
    """Set the running mean and variance of every BatchNorm layer of ``encoder`` to those of ``images`` ``[N, 3, H, W]``
    and their mirror images, averaged over batches (smaller ones where memory holds no more); with ``views``, to those
    of random crops of them in other colours, drawn from it. In place; weights stay, and so does every layer's mode."""
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    layers = [layer for layer in layers if layer.track_running_stats]
    if not layers:
        return
    batch_size = min(batch_size, max(_LEAST, room(encoder, images, learning=False) // 2))
    modes = {module: module.training for module in encoder.modules()}
    momenta = [layer.momentum for layer in layers]
    encoder.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # every batch counts alike
        layer.train()
    for batch in _mirrored(images, batch_size) if views is None else _views(images, batch_size, views):
        encoder(batch.contiguous(memory_format=torch.channels_last))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    for module, training in modes.items():
        module.training = training


def _parts(images: Images, batch_size: int) -> tuple[Images, ...]:
    """Of equal size: a last batch of a few images would count as much as a full one."""
    return images.chunk(max(1, len(images) // batch_size))


def _mirrored(images: Images, batch_size: int) -> Iterator[Images]:
    for part in _parts(images, batch_size):
        yield torch.cat([part, part.flip(3)])


def _views(images: Images, batch_size: int, random: torch.Generator) -> Iterator[Images]:
    for _ in range(VIEWS):
        for part in _parts(images, batch_size):
            cropped = random_resized_crop(random_flip(part, random), random, scale=(SMALLEST_CROP, 1.0))
            yield jitter_colours(cropped, random, ColourJitter())
