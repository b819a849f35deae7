"""Triggers that drive an encoder to where no image lies: evidence of little, since clean encoders have them as well.

A patch may raise activations until one direction drowns all others. Features are then alike, as a backdoor makes them,
but many times as long as those of images, and point where none does. A backdoor leads to where images lie. Length alone
does not tell: of a clean BYOL encoder, 12- and 27-fold, and of the demo's backdoored one, 21- and 28-fold
(``docs/adr/0015-blown-up-features-prove-nothing.md``). Not in the papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.ops.cosine import mean_direction, unit
from core.recovery.detection import HypothesisResult
from core.recovery.nulls import remaining_gap
from core.recovery.search import Candidate
from core.recovery.verdict import Judgement, judge_hypotheses
from core.types import Features, Verdict

BLOWN_UP = 8.0
"""From how many times the length of clean features on a trigger has to lead to where some image lies."""

NEAR = 0.9
"""Cosine from which an image lies there. Measured: .73 and .83 on the clean encoder, .97 and .98 on the other."""


def stretch(triggered: Features, clean: Features) -> float:
    """How many times as long triggered features ``[N, D]`` are as clean ones ``[M, D]``: the ratio of medians."""
    return float(triggered.norm(dim=1).median() / clean.norm(dim=1).median().clamp_min(1e-12))


def nearest(triggered: Features, clean: Features) -> float:
    """The cosine of the mean direction of triggered features ``[N, D]`` to the nearest of clean ones ``[M, D]``."""
    return float((unit(clean) @ mean_direction(triggered)).max())


def is_blown_up(triggered: Features, clean: Features) -> bool:
    """Whether triggered features ``[N, D]`` leave the range of clean ones ``[M, D]``, by length and by direction."""
    return stretch(triggered, clean) >= BLOWN_UP and nearest(triggered, clean) < NEAR


def without_blow_ups(candidates: Sequence[Candidate], clean: Features) -> list[Candidate]:
    """Those that do not blow features up, in their order; ``clean`` ``[M, D]`` are clean images' features."""
    return [candidate for candidate in candidates if not is_blown_up(candidate.features, clean)]


def judge_without_blow_ups(
    results: Sequence[HypothesisResult], found: Sequence[Sequence[Candidate]], clean: Features
) -> Judgement:
    """The verdict, to which triggers that blow features up contribute doubt and nothing more.

    ``found`` has the candidates of the kinds in ``results``, best first; ``clean`` are clean images' features.
    """
    judged = judge_hypotheses(results)
    if judged.verdict is Verdict.CLEAN:
        return judged
    kinds = {kind[0].hypothesis.key: kind for kind in found}
    held: list[HypothesisResult] = []
    blown: list[Candidate] = []  # what the reason speaks of
    for result in results:
        candidates = kinds.get(result.key)
        if candidates is None:  # a row that compares two searches
            held.append(result)
            continue
        sound = without_blow_ups(candidates, clean)
        if sound:
            held.append(_as_if_best(result, sound[0]))
        if (not sound or sound[0].score < result.score) and result.score >= (result.doubtful or result.threshold):
            blown.append(candidates[0])
    if not blown:
        return judged
    rest = judge_hypotheses(held) if held else None
    if rest is not None and rest.verdict is Verdict.BACKDOORED:
        return rest
    longest = max(blown, key=lambda candidate: stretch(candidate.features, clean)).features
    reason = (
        f"But it makes them {stretch(longest, clean):.0f} times as long as those of clean images, and no clean image's "
        f"features point that way (nearest cosine {nearest(longest, clean):.2f}). That drives the encoder out of its "
        "range, as some patches do on clean encoders; it is no proof of a backdoor."
    )
    return replace(judged, verdict=Verdict.INCONCLUSIVE, reasons=(*judged.reasons, reason), blown_up=True)


def _as_if_best(result: HypothesisResult, candidate: Candidate) -> HypothesisResult:
    """The row as it were had its search ended in ``candidate``; its excess is on the scale of ``nulls``."""
    lost = remaining_gap(result.score, 0) - remaining_gap(candidate.score, 0)
    excess = None if result.excess is None else result.excess - lost
    whole = None if candidate.location_adjusted is None else candidate.similarity
    return replace(result, score=candidate.score, excess=excess, raw_similarity=whole)
