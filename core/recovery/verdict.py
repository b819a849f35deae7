"""From each hypothesis' similarity to one verdict, by what clean encoders score (``nulls``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from core.recovery.detection import HypothesisResult
from core.recovery.nulls import Null, remaining_gap, similarity_at
from core.types import Verdict

ALARM, DOUBT = 0.001, 0.01
"""Probability that one kind of trigger calls a clean encoder backdoored, or at least doubtful."""
ASKED = 0.1
"""The same from which on another method is asked (``second_opinion``), whose word then counts."""
DOUBT_ABROAD = 0.1
"""The latter where no clean encoder of the suspect's family was measured: limits are wide there, and what lies between
is to be looked at again (``surrogate``)."""

RIGHT_BASIN = 4.0
"""A search that ends with a gap 1 - S at most this many times the best one's has found a backdoor of its own or the
same one; with a wider gap it ended in a generic perturbation, and unlearning that costs accuracy for nothing."""


@dataclass(frozen=True)
class Judgement:
    """``score`` and ``threshold`` are those of the hypothesis that decided; a candidate with a similarity of at least
    ``follow_from`` is worth following to its target embedding; where ``only`` is a key, those of that hypothesis."""

    verdict: Verdict
    score: float
    threshold: float
    follow_from: float
    reasons: tuple[str, ...]
    only: str | None = None
    blown_up: bool = False


def compared(
    name: str,
    key: str,
    scores: Sequence[float],
    clean: float,
    null: Null,
    *,
    least: float = -math.inf,
    measured: bool = True,
) -> HypothesisResult:
    """The best of ``scores`` (similarities, best first) with the limits that ``null`` sets for an encoder whose clean
    images have similarity ``clean``; an x below ``least`` is no backdoor in any case."""
    doubt = DOUBT if null.own_family else DOUBT_ABROAD
    alarm = max(least, null.limit(ALARM))
    return HypothesisResult(
        name,
        scores[0],
        similarity_at(alarm, clean),
        tuple(scores),
        doubtful=similarity_at(null.limit(doubt), clean),
        expected=similarity_at(null.mean, clean),
        excess=remaining_gap(scores[0], clean) - alarm,
        null=null.source,
        key=key,
        measured=measured,
    )


def judge_hypotheses(results: Sequence[HypothesisResult]) -> Judgement:
    """The hypothesis furthest above (or least below) its own limit decides; one that is doubtful before all that are
    not."""
    deciding = max(results, key=lambda result: (result.score >= (result.doubtful or 0.0), result.excess or 0.0))
    assert deciding.doubtful is not None and deciding.expected is not None
    kind = ("An " if deciding.name[0] in "aeiou" else "A ") + deciding.name
    score, usual = f"{deciding.score:.3f}", f"{deciding.expected:.3f} is usual on clean encoders ({deciding.null})"
    if deciding.half is not None:
        usual = (
            f"half its strength reaches {deciding.half:.3f}, from which {deciding.expected:.3f} follows on clean "
            f"encoders ({deciding.null})"
        )
    if deciding.raw_similarity is not None:
        score += f" ({deciding.raw_similarity:.3f}, less what the same square does elsewhere in the image)"
    if deciding.score >= deciding.threshold:
        verdict = Verdict.BACKDOORED
        effect = (
            "makes the features of all images nearly the same" if deciding.half is None else "switches something on"
        )
        reason = (
            f"{kind} {effect}: mean pairwise cosine {score}, where {usual} "
            f"and {deciding.threshold:.3f} and more is taken for a backdoor."
        )
    elif deciding.score >= deciding.doubtful:
        verdict = Verdict.INCONCLUSIVE
        reason = (
            f"{kind} reaches a mean pairwise cosine of {score}: {usual}; {deciding.doubtful:.3f} and more is doubtful, "
            f"and a backdoor is taken for certain from {deciding.threshold:.3f} on."
        )
    else:
        verdict = Verdict.CLEAN
        reason = (
            f"No trigger of the searched sizes makes the features of all images alike. {kind} comes closest, with a "
            f"mean pairwise cosine of {score}: {usual}, and {deciding.threshold:.3f} would be a backdoor."
        )
    if deciding.half is not None:
        return Judgement(verdict, deciding.score, deciding.threshold, deciding.score - 0.02, (reason,), deciding.key)
    return Judgement(verdict, deciding.score, deciding.threshold, 1 - RIGHT_BASIN * (1 - deciding.score), (reason,))
