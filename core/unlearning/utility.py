"""What training did to clean images that it never saw: measured during it, to stop in time, and after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.micro_batches import features_in_chunks
from core.ops.cosine import mean_direction, paired_similarity, pairwise_similarity, similarity_to, unit
from core.types import Encoder, Images, Trigger
from core.unlearning.result import Unlearning


@dataclass(frozen=True)
class Utility:
    """``drift`` is 1 - mean cosine of a student's clean features to the original's; ``neighbour_agreement`` the share
    of each held-back image's nearest neighbours that are the same ones as in the original."""

    drift: float
    neighbour_agreement: float


class UtilityEvaluator:
    """Clean images ``[M, 3, H, W]`` and the input encoder's view of them, to compare a student with."""

    def __init__(self, original: Encoder, images: Images, triggers: Sequence[Trigger]) -> None:
        self._images, self._triggers = images, triggers
        self._before = _features(original, images)
        self._triggered = [_features(original, trigger(images)) for trigger in triggers]
        self._led_to = [mean_direction(features) for features in self._triggered]
        self._initial = max((float(pairwise_similarity(features)) for features in self._triggered), default=0.0)

    def utility(self, student: Encoder) -> Utility:
        """How far the student's clean features are from the original's."""
        features = _features(student, self._images)
        drift = float(1 - paired_similarity(features, self._before).mean())
        return Utility(drift, _neighbour_agreement(self._before, features))

    def pulls(self, student: Encoder, images: int = 32) -> Tensor:
        """How far each trigger still draws the student's features to where it led in the original, ``[T]``, at least 0.

        Cosine of triggered features to the original's triggered direction, less that of clean features. The distance
        between clean and triggered features would not do: an opaque patch hides a part of the image on any encoder.
        """
        few = self._images[:images]
        clean = _features(student, few)
        pulls = [
            similarity_to(_features(student, trigger(few)), direction) - similarity_to(clean, direction)
            for trigger, direction in zip(self._triggers, self._led_to, strict=True)
        ]
        return torch.stack(pulls).cpu().clamp_min(0)

    def leads(self) -> Tensor:
        """For each trigger the direction it led to in the original, as long as the share of the way there that it took
        features: ``[T, D]``, lengths from 0 to 1. About 1 for a trigger of a backdoor, next to nothing for noise."""
        leads = []
        for features, direction in zip(self._triggered, self._led_to, strict=True):
            clean = similarity_to(self._before, direction)
            way = (similarity_to(features, direction) - clean) / (1 - clean).clamp_min(1e-6)
            leads.append(direction * way.clamp_min(0))
        return torch.stack(leads)

    def result(self, student: Encoder, history: tuple[float, ...], notes: tuple[str, ...]) -> Unlearning:
        utility = self.utility(student)
        return Unlearning(
            student,
            utility.drift,
            utility.neighbour_agreement,
            self._initial,
            self._triggered_similarity(student),
            len(history),
            history,
            notes,
        )

    def _triggered_similarity(self, encoder: Encoder) -> float:
        """The strongest trigger's mean pairwise cosine; 0 without triggers."""
        triggered = (_features(encoder, trigger(self._images)) for trigger in self._triggers)
        return max((float(pairwise_similarity(features)) for features in triggered), default=0.0)


def _neighbour_agreement(before: Tensor, after: Tensor, neighbours: int = 5) -> float:
    """Share of each image's nearest ``neighbours`` (cosine) that are the same in both feature sets."""
    count = min(neighbours, len(before) - 1)
    first, second = (_nearest(features, count) for features in (before, after))
    shared = (first[:, :, None] == second[:, None, :]).any(2)
    return float(shared.float().mean())


def _nearest(features: Tensor, count: int) -> Tensor:
    similarity = unit(features) @ unit(features).T
    return similarity.fill_diagonal_(-2).topk(count, dim=1).indices


@torch.no_grad()
def _features(encoder: Encoder, images: Images) -> Tensor:
    """In eval mode, whatever the student's mode is; the mode of each layer is put back."""
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    features = features_in_chunks(encoder, images)
    for module, training in modes.items():
        module.training = training
    return features
