"""What clean encoders score: the yardstick that a verdict is read off.

A similarity S says little by itself: how alike a bounded trigger can make the features of a *clean* encoder depends on
its architecture and training. So every score is held against clean encoders of the same family, on the scale

    x = -ln((1 - S) / (1 - S0)),

S0 being the similarity of clean images: the share of the clean spread that a trigger leaves, as a logarithm. On it a
backdoor lies units away from clean encoders, whose own scatter is a few tenths, and encoders whose clean features are
more or less alike become comparable. Thresholds are one-sided prediction limits: with n clean encoders in the family
and a deviation pooled over all families and a prior, a further clean one exceeds ``limit(a)`` with probability a.

Not in the SSLDefender paper, which recovers triggers and gives no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from core.decision.evidence import effect_of as remaining_gap
from core.decision.evidence import similarity_at

__all__ = ["Null", "Observation", "family_of", "null_for", "remaining_gap", "scatter", "similarity_at"]

PRIOR_DEVIATION, PRIOR_DEGREES = 0.4, 10
"""What is believed of the scatter within a family before any is seen, and how many degrees of freedom that is worth.

A handful of encoders says little about a deviation: estimated alone, it may come out tiny by chance, or be worth two
degrees of freedom, whose limits no backdoor passes. The value is what resnet18s trained by four methods scatter by in
the search for masked patterns, the widest of the four kinds (``docs/calibration.md``)."""


@dataclass(frozen=True)
class Null:
    """The distribution of x over clean encoders, for one kind of trigger.

    ``mean`` is over ``encoders`` of them, ``deviation`` was estimated with ``degrees`` of freedom; ``own_family`` says
    whether they are of the suspect's architecture and input size. ``source`` is for the report; ``prior`` is the
    deviation believed in before any was seen.
    """

    mean: float
    deviation: float
    encoders: int
    degrees: int
    own_family: bool
    source: str
    prior: float = PRIOR_DEVIATION

    def limit(self, false_alarms: float) -> float:
        """The x that a further clean encoder exceeds with probability ``false_alarms``."""
        degrees = self.degrees + PRIOR_DEGREES
        squares = self.degrees * self.deviation**2 + PRIOR_DEGREES * self.prior**2
        t = float(stdtrit(degrees, 1 - false_alarms))
        return self.mean + t * math.sqrt(squares / degrees) * math.sqrt(1 + 1 / self.encoders)


@dataclass(frozen=True)
class Observation:
    """A clean encoder that was searched: its family and the x of each kind of trigger, by its key
    (``hypotheses.kind_key``); its growth (``core.recovery.growth``) stands among them under a key of its own.

    ``sha256`` is of its weights file; ``seeds`` searches were averaged.
    """

    name: str
    family: str
    sha256: str
    seeds: int
    scores: Mapping[str, float]


def family_of(architecture: str | None, image_size: tuple[int, int]) -> str:
    """What encoders are grouped by: architecture and input size."""
    return f"{architecture or 'unknown'} at {image_size[0]}x{image_size[1]}"


def null_for(key: str, family: str, observed: Sequence[Observation], *, prior: float = PRIOR_DEVIATION) -> Null | None:
    """The null of the kind of trigger ``key`` for an encoder of ``family``; None if too few clean encoders were
    searched for it.

    Without a clean encoder of that family, all families stand in for it: their means are then the sample, and the
    limits become as wide as families differ.
    """
    groups = _by_family(key, observed)
    total = sum(len(group) for group in groups.values())
    apart = scatter(key, observed)
    if family in groups:
        own = groups[family]
        deviation, degrees = apart or (prior, 0)
        source = f"{len(own)} clean encoder{'s' if len(own) > 1 else ''} of {family}"
        return Null(float(np.mean(own)), deviation, len(own), degrees, True, source, prior)
    if total < 3:
        return None
    # Single encoders, not family means: a new family's encoder differs by both kinds of scatter.
    values = np.array([value for group in groups.values() for value in group])
    source = f"{total} clean encoders of other families"
    return Null(float(values.mean()), float(values.std(ddof=1)), total, total - 1, False, source, prior)


def scatter(key: str, observed: Sequence[Observation]) -> tuple[float, int] | None:
    """How far clean encoders of one family lie apart: the deviation within families, pooled, and its degrees of
    freedom; None if no family has two."""
    groups = _by_family(key, observed)
    degrees = sum(len(group) - 1 for group in groups.values())
    if not degrees:
        return None
    squares = sum(float(np.square(np.array(group) - np.mean(group)).sum()) for group in groups.values())
    return math.sqrt(squares / degrees), degrees


def _by_family(key: str, observed: Sequence[Observation]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for one in observed:
        if key in one.scores:
            groups.setdefault(one.family, []).append(one.scores[key])
    return groups
