"""Training of the poison classifier and its answer for every image (PoisonCAM Sec. IV-D)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from core.cleansing.config import CleansingConfig
from core.cleansing.poison_classifier import PoisonEnsemble, probabilities
from core.cleansing.synthesis import box_patches, training_batch
from core.device import mixed_precision
from core.random import generator
from core.run import Run, StateDict
from core.training.finite import require_finite
from core.training.state import TrainingState
from core.types import ImageSet

TRAIN_STAGE = "train poison classifier"
CLASSIFY_STAGE = "classify images"
LOOK_EVERY = 20
"""Steps between two looks at the validation images (PatchSearch: 20)."""

STEADY_LOOKS = 10
"""So many equal looks in a row, and the training has settled (PatchSearch: 10)."""


def train_classifier(
    images: ImageSet,
    patches: Sequence[Tensor],
    negatives: Tensor,
    validation: tuple[Tensor, Tensor],
    config: CleansingConfig,
    run: Run,
    *,
    device: torch.device,
    seed: int,
) -> PoisonEnsemble:
    """An ensemble that tells ``patches`` (``[3, s, s]`` in [0, 1]) on images from images without.

    ``negatives`` are the indices to train on, of images that are hardly poisoned; ``validation`` those of (poisoned,
    clean) images that decide when to stop.
    """
    side = min(images.pixels.shape[2:])
    ensemble = PoisonEnsemble(config.classifiers, config.classifier_width, side, seed=seed)
    ensemble.to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        ensemble.parameters(), lr=config.classifier_rate, momentum=0.9, weight_decay=1e-4, nesterov=True
    )
    box = box_patches(patches, device)
    progress = _Progress(TrainingState({"ensemble": ensemble}, optimiser))
    for step in run.steps(TRAIN_STAGE, config.classifier_steps, state=progress):
        if progress.settled:
            continue
        random = generator(seed, TRAIN_STAGE, step)
        chosen = negatives[torch.randint(len(negatives), (config.classifier_batch // 2,), generator=random)]
        batch, stamped = training_batch(images.batch(chosen, device), box, config.zoom, config.classifier_crop, random)
        for group in optimiser.param_groups:
            group["lr"] = config.classifier_rate * (1 + math.cos(math.pi * step / config.classifier_steps)) / 2
        ensemble.train()
        with mixed_precision(device):
            logits = ensemble(batch.contiguous(memory_format=torch.channels_last))
        # The members share nothing: the sum's gradient is each one's own.
        loss = functional.binary_cross_entropy_with_logits(logits.float(), stamped.expand_as(logits))
        optimiser.zero_grad(set_to_none=True)
        (loss * len(logits)).backward()
        optimiser.step()
        if step % LOOK_EVERY == LOOK_EVERY - 1:
            run.log(loss=require_finite(loss, step))
            progress.looks.append(_f1(ensemble, images, validation, device))
    return ensemble


def classify(ensemble: PoisonEnsemble, images: ImageSet, run: Run, *, device: torch.device) -> Tensor:
    """The probability of poison of every image, ``[N]`` fp32 on the CPU."""
    chunks = torch.arange(len(images)).split(512)
    parts = [probabilities(ensemble, images, chunks[step], device) for step in run.steps(CLASSIFY_STAGE, len(chunks))]
    return torch.cat(parts)


def _f1(ensemble: PoisonEnsemble, images: ImageSet, validation: tuple[Tensor, Tensor], device: torch.device) -> int:
    """F1 of the ensemble on the (poisoned, clean) images, in whole per cent: finer steps would never be steady."""
    found = int((probabilities(ensemble, images, validation[0], device) > 0.5).sum())
    false = int((probabilities(ensemble, images, validation[1], device) > 0.5).sum())
    whole = found + false + len(validation[0])
    return int(200 * found / whole) if whole else 0


class _Progress:
    """The training state and the looks so far: a resumed run must stop where an unbroken one stops."""

    def __init__(self, training: TrainingState) -> None:
        self._training = training
        self.looks: list[int] = []

    @property
    def settled(self) -> bool:
        last = self.looks[-STEADY_LOOKS:]
        return len(self.looks) > STEADY_LOOKS and len(set(last)) == 1 and last[0] > 0

    def state_dict(self) -> StateDict:
        return {"training": self._training.state_dict(), "looks": list(self.looks)}

    def load_state_dict(self, state: Any) -> None:
        self._training.load_state_dict(state["training"])
        self.looks = list(state["looks"])
