"""Which of the recovered triggers are kept."""

from __future__ import annotations

import torch

from core.recovery.detection import RecoveredTrigger, top_k_per_target
from core.triggers import AdditiveTrigger


def found(hypothesis: str, similarity: float, target: int = 0) -> RecoveredTrigger:
    return RecoveredTrigger(hypothesis, AdditiveTrigger(torch.zeros(3, 8, 8)), similarity, 0.1, "", target, hypothesis)


def test_of_each_kind_and_target_the_first_stay() -> None:
    patches = [found("patch", similarity) for similarity in (0.99, 0.98, 0.97)]
    other = [found("patch", similarity, target=1) for similarity in (0.96, 0.95, 0.94)]
    spectral = found("spectral", 0.93)
    kept = top_k_per_target([*patches, spectral, *other])
    assert kept == (*patches[:2], spectral, *other[:2])
    assert top_k_per_target(kept) == kept
    assert top_k_per_target([]) == ()
