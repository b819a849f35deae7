"""What unlearning minimises (SSLDefender Sec. IV-C): triggered features go to a goal, clean ones stay.

    L = alpha d(S(x'), goal) + beta d(S(x), T(x))

Symbols: S -> the student's ``of_clean`` and ``of_triggered``; T -> ``taught``; alpha -> ``unlearn_weight``; beta ->
``distil_weight``; d -> ``Distance``. As printed the goal is S(x); here it begins at T(x) (``own_share``) and lies a
little beyond, away from where the trigger led (``beyond``).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from core.device import to_like
from core.ops.cosine import paired_similarity, unit
from core.ops.sliced_wasserstein import random_directions, sliced_wasserstein
from core.types import Features


class Distance(Protocol):
    """The distance of two batches of features ``[B, D]``; a scalar."""

    def __call__(self, first: Features, second: Features) -> Tensor: ...


def own_share(done: float, lead_in: float) -> float:
    """The student's share of the goal after a share ``done`` of the steps: 0 up to a third of ``lead_in``, then more.

    A student that chases its own features from the start may run away from the teacher's within ten steps: the first
    large steps move the clean features along.
    """
    return 1.0 if lead_in == 0 else min(1.0, max(0.0, 1.5 * done / lead_in - 0.5))


def goal_of(of_clean: Features, taught: Features, own: float) -> Features:
    """Where triggered images are to go: the student's features of the clean images, a share ``own`` of it, and the
    teacher's. All ``[B, D]``."""
    return of_clean if own == 1 else own * unit(of_clean) + (1 - own) * unit(taught.float())


def beyond(goal: Features, led_to: Features, overshoot: float) -> Features:
    """``goal`` ``[B, D]``, moved by ``overshoot`` away from where each image's trigger led; 0 leaves it. ``led_to``
    ``[B, D]`` are these directions, the shorter the less a trigger did (``UtilityEvaluator.leads``).

    Recovered triggers are not the true one. What unlearning does to them it does not quite do to that: it stays behind,
    always on the side of its target. Going beyond the goal with the triggers at hand brings it nearer. Not in the
    paper; measured in ADR 0017.
    """
    if overshoot == 0:
        return goal
    at = unit(goal)
    return at - overshoot * (led_to - (led_to * at).sum(1, keepdim=True) * at)


def paired_distance(first: Features, second: Features) -> Tensor:
    """One minus the mean cosine of row i of ``first`` with row i of ``second``, ``[B, D]``."""
    return (1 - paired_similarity(first, second)).mean()


def sliced_distance(features: int, projections: int, random: torch.Generator, like: Tensor) -> Distance:
    """The sliced 2-Wasserstein distance on ``projections`` directions drawn from ``random``, for features of size
    ``features``.

    Of unit features times sqrt(D): raw ones would make alpha and beta depend on an encoder's feature norm.
    """
    directions = to_like(random_directions(features, projections, random), like)
    scale = math.sqrt(features)

    def distance(first: Features, second: Features) -> Tensor:
        return sliced_wasserstein(unit(first) * scale, unit(second) * scale, directions)

    return distance
