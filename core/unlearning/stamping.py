"""Recovered triggers on clean images: a fresh one for every image of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from core.errors import UsageError
from core.types import Images, Trigger


def require_triggers(triggers: Sequence[Trigger]) -> None:
    """Refuse to unlearn nothing.

    Raises:
        UsageError: no triggers.
    """
    if not triggers:
        raise UsageError(
            "no_triggers",
            field="triggers",
            found="none",
            expected="at least one recovered trigger",
            action="Run a detection first; an encoder in which nothing was found needs no unlearning.",
        )


class Stamped(NamedTuple):
    """``images`` ``[B, 3, H, W]`` and, for each, the index of its trigger: ``which`` ``[B]``, int64 on the CPU."""

    images: Images
    which: Tensor


def stamp_each(
    images: Images,
    triggers: Sequence[Trigger],
    weights: Tensor,
    jitter: int,
    random: torch.Generator,
    groups: int = 8,
) -> Stamped:
    """``images`` ``[B, 3, H, W]``, each with a trigger drawn from ``triggers`` and moved by up to ``jitter`` pixels.

    ``weights`` ``[T]`` (CPU, not all zero) are the triggers' shares. Images are stamped in at most ``groups`` groups
    of one trigger and one shift each. A trigger moves by moving the image the other way underneath it, so every kind
    of trigger can; what leaves on one side enters on the other.
    """
    stamped, which = [], []
    for part in images.chunk(min(groups, len(images))):
        chosen = int(torch.multinomial(weights, 1, generator=random))
        down, right = torch.randint(-jitter, jitter + 1, (2,), generator=random).tolist()
        moved = triggers[chosen](part.roll((-down, -right), dims=(2, 3)))
        stamped.append(moved.roll((down, right), dims=(2, 3)))
        which += [chosen] * len(part)
    return Stamped(torch.cat(stamped), torch.tensor(which))
