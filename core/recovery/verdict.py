"""From each hypothesis' similarity to one verdict.

Bounds: a clean encoder's best bounded trigger leaves a gap 1 - S several times wider than a backdoor's. The thresholds
were chosen by hand between the two on the few encoders at hand, not calibrated per architecture; between ``doubtful``
and ``threshold`` the answer is ``inconclusive``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from core.recovery.detection import HypothesisResult
from core.types import Verdict

RIGHT_BASIN = 4.0
"""A search that ends with a gap 1 - S at most this many times the best one's has found a backdoor of its own or the
same one; with a wider gap it ended in a generic perturbation, and unlearning that costs accuracy for nothing."""


class Band(Enum):
    """For one kind of trigger: from ``doubtful`` on a similarity is not clean, from ``threshold`` on it is a
    backdoor."""

    MASKED = (0.955, 0.975)
    ADDITIVE = (0.93, 0.97)
    OPAQUE = (0.955, 0.976)

    @property
    def doubtful(self) -> float:
        return self.value[0]

    @property
    def threshold(self) -> float:
        return self.value[1]


@dataclass(frozen=True)
class Judgement:
    """``score`` and ``threshold`` are those of the hypothesis that decided; a candidate with a similarity of at least
    ``follow_from`` is worth following to its target embedding."""

    verdict: Verdict
    score: float
    threshold: float
    follow_from: float
    reasons: tuple[str, ...]


def judge_hypotheses(results: Sequence[HypothesisResult]) -> Judgement:
    """The hypothesis furthest above (or least below) its threshold decides."""
    bands = {band.threshold: band for band in Band}
    deciding = max(results, key=lambda result: result.score - result.threshold)
    band = bands[deciding.threshold]
    score = f"{deciding.score:.3f}"
    kind = ("An " if deciding.name[0] in "aeiou" else "A ") + deciding.name
    if deciding.score >= band.threshold:
        verdict = Verdict.BACKDOORED
        reason = (
            f"{kind} makes the features of all images nearly the same: mean pairwise cosine {score}, "
            f"where {band.threshold:.3f} and more is taken for a backdoor."
        )
    elif deciding.score >= band.doubtful:
        verdict = Verdict.INCONCLUSIVE
        reason = (
            f"{kind} reaches a mean pairwise cosine of {score}: more than clean encoders show (below "
            f"{band.doubtful:.3f}), less than a backdoor ({band.threshold:.3f})."
        )
    else:
        verdict = Verdict.CLEAN
        reason = (
            f"No trigger of the searched sizes makes the features of all images alike. {kind} comes closest, with a "
            f"mean pairwise cosine of {score} (threshold {band.threshold:.3f})."
        )
    return Judgement(verdict, deciding.score, band.threshold, 1 - RIGHT_BASIN * (1 - deciding.score), (reason,))
