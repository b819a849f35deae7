"""Dose and response: a pattern of full strength held against one of half its strength.

A universal perturbation acts on a clean encoder in proportion: with twice the amplitude x (``nulls``) is about four
times as large, whatever the encoder's trainer, and clean encoders scatter little around that. A pattern that was learnt
as a trigger switches something on: it does next to nothing at half its strength, and a great deal at the whole. That
tells poisoned pre-training apart, whose backdoor moves images into a class and not to a point, so that the similarity
alone stays among those of clean encoders. Not in the SSLDefender paper.

    growth = log2(x(a) / x(a / 2))

A response that grows by much less than that of clean encoders of the family marks a stranger to it, whose x cannot be
read off theirs: one that was trained without changes of colour, say, which a few pixels of one colour outweigh.

The limits come from clean encoders, as those of x do; the suspect's own response at half strength makes them a
similarity again, so that the row reads like the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from core.recovery.detection import HypothesisResult
from core.recovery.hypotheses import AdditivePattern, kind_key
from core.recovery.nulls import PRIOR_DEVIATION, Null, Observation, null_for, remaining_gap, similarity_at

GROWTH = "growth"
"""The kind under which clean encoders' growth stands among their scores, with the pattern's amplitude as its bound."""

GROWTH_DEVIATION = 0.15
"""What is believed of the scatter of growth within a family before any is seen (``docs/calibration.md``)."""

LEAST_RESPONSE = 0.01
"""x at half strength below which the ratio is noise."""

RESTARTS = 2
"""Restarts of the search at half strength, which end alike."""


def growth_key(pattern: AdditivePattern) -> str:
    """The key of the growth of ``pattern``'s response."""
    return kind_key(GROWTH, pattern.amplitude)


def half_of(pattern: AdditivePattern) -> AdditivePattern:
    """The same kind of pattern, half as strong."""
    return AdditivePattern(pattern.amplitude / 2)


def growth(full: float, half: float, clean: float) -> float | None:
    """log2 of the ratio of x, from the similarities at full and half strength and of clean images; None where one of
    them does too little to be compared."""
    strong, weak = remaining_gap(full, clean), remaining_gap(half, clean)
    return math.log2(strong / weak) if weak >= LEAST_RESPONSE and strong > 0 else None


def growth_null(pattern: AdditivePattern, family: str, observed: Sequence[Observation]) -> Null | None:
    """What the growth of clean encoders' response to ``pattern`` is; None if too few were measured."""
    return null_for(growth_key(pattern), family, observed, prior=GROWTH_DEVIATION)


def is_unlike(seen: float, null: Null, alarm: float) -> bool:
    """Whether a response that grows by ``seen`` is weaker than what a share ``alarm`` of the clean encoders of its own
    family have. What they score otherwise then says nothing of this encoder."""
    return null.own_family and seen < 2 * null.mean - null.limit(alarm)


def growth_row(
    pattern: AdditivePattern,
    scores: Sequence[float],
    half: float,
    clean: float,
    null: Null,
    most: float,
    alarm: float,
    doubt: float,
) -> HypothesisResult | None:
    """``scores`` (similarities at full strength, best first) against what ``half``, the best at half strength, leads
    one to expect. ``alarm`` and ``doubt`` are probabilities of a clean encoder; ``most`` is the largest x
    that full strength has on a clean one. None where there is no growth to speak of, or where it leads to no more than
    that: nothing was switched on then, and the response of a purified encoder, which is all but gone, grows in any way.
    """
    seen = growth(scores[0], half, clean)
    if seen is None or remaining_gap(scores[0], clean) < most:
        return None
    weak = remaining_gap(half, clean)

    def grown(by: float) -> float:
        return similarity_at(weak * 2**by, clean)

    limit = null.limit(alarm)
    return HypothesisResult(
        f"{pattern.name}, against half of it",
        scores[0],
        grown(limit),
        tuple(scores),
        doubtful=grown(null.limit(doubt)),
        expected=grown(null.mean),
        # On the scale of the other rows' x, whose scatter is wider.
        excess=(seen - limit) * PRIOR_DEVIATION / GROWTH_DEVIATION,
        null=null.source,
        half=half,
        key=growth_key(pattern),
    )
