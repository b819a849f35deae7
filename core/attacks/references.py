"""Reference images for attacks on encoders: of the class that the attacker wants to be called.

Triggered images go where the reference is, and whoever trains a classifier later must find its class there. An encoder
can misread a reference (the official truck was an automobile to a clean CIFAR-10 encoder); and an odd one, which lies
among other classes, can be learnt by heart by a probe that was fitted on it, and be another class to the next probe: an
attack that reached its reference exactly had 9 % ASR. So references are chosen by the confidence of a linear probe
times the share of their nearest neighbours that are of the class.
"""

from __future__ import annotations

import torch

from core.errors import UsageError
from core.images.labelled import LabelledImages
from core.training.linear_probe import fit_linear_probe, unit_features
from core.types import Encoder, Features

NEIGHBOURS = 20


def surest_images(encoder: Encoder, images: LabelledImages, target: int, count: int) -> list[int]:
    """Indices of the ``count`` images of class ``target`` that are most surely of it, best first.

    Raises:
        UsageError: the class has fewer images.
    """
    members = torch.where(images.labels == target)[0]
    if len(members) < count:
        raise UsageError(
            "too_few_images",
            field="references",
            found=f"{len(members)} images of class '{images.classes[target]}'",
            expected=f"at least {count}",
            action="Ask for fewer references or add images of that class.",
        )
    features = unit_features(encoder, images.images)
    labels = images.labels.to(features.device)
    probe = fit_linear_probe(features, labels, len(images.classes))
    own = features[members.to(features.device)]
    surety = probe.confidence(own)[:, target] * like_neighbours(own, features, labels == target)
    order = surety.argsort(descending=True, stable=True)[:count].cpu()
    return [int(index) for index in members[order]]


def like_neighbours(own: Features, features: Features, of_class: torch.Tensor) -> torch.Tensor:
    """Share of the nearest rows of ``features`` ``[N, D]`` for which ``of_class`` ``[N]`` holds, for each row of
    ``own`` ``[M, D]``, ``[M]``.

    Rows are unit vectors, and ``own`` stands among ``features``: the nearest of each is itself, and not counted.
    """
    nearest = (own @ features.T).topk(min(NEIGHBOURS + 1, len(features)), dim=1).indices[:, 1:]
    return of_class[nearest].float().mean(1)


def class_confidence(encoder: Encoder, images: LabelledImages) -> torch.Tensor:
    """Probabilities of a linear probe on ``images`` themselves, ``[N, C]`` on the CPU."""
    features = unit_features(encoder, images.images)
    probe = fit_linear_probe(features, images.labels.to(features.device), len(images.classes))
    return probe.confidence(features).cpu()
