"""Reference images for attacks on encoders: of the class that the attacker wants to be called.

A weak encoder can misread a reference (the official truck was an automobile to a clean CIFAR-10 encoder), and would
then send triggered images to another class. So references are chosen by the confidence of a linear probe.
"""

from __future__ import annotations

import torch

from core.errors import UsageError
from core.images.labelled import LabelledImages
from core.training.linear_probe import fit_linear_probe, unit_features
from core.types import Encoder


def surest_images(encoder: Encoder, images: LabelledImages, target: int, count: int) -> list[int]:
    """Indices of the ``count`` images of class ``target`` that a probe is surest of, best first.

    Raises:
        UsageError: the class has fewer images.
    """
    confidence = class_confidence(encoder, images)[:, target]
    members = torch.where(images.labels == target)[0]
    if len(members) < count:
        raise UsageError(
            "too_few_images",
            field="references",
            found=f"{len(members)} images of class '{images.classes[target]}'",
            expected=f"at least {count}",
            action="Ask for fewer references or add images of that class.",
        )
    order = confidence[members].argsort(descending=True)[:count]
    return [int(index) for index in members[order]]


def class_confidence(encoder: Encoder, images: LabelledImages) -> torch.Tensor:
    """Probabilities of a linear probe on ``images`` themselves, ``[N, C]`` on the CPU."""
    features = unit_features(encoder, images.images)
    probe = fit_linear_probe(features, images.labels.to(features.device), len(images.classes))
    return probe.confidence(features).cpu()
