"""Triggers that drive an encoder out of its range: evidence of little, since clean encoders have them as well.

A patch may raise activations until one direction drowns all others. Features are then alike, as a backdoor makes them,
but many times as long as those of images. A backdoor leads to where images lie: planted and learnt ones lengthen
features 2- to 4-fold, and on a clean BYOL encoder patches were found that do so 12- and 27-fold
(``docs/adr/0015-blown-up-features-prove-nothing.md``). Not in the papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.recovery.detection import HypothesisResult
from core.recovery.search import Candidate
from core.recovery.verdict import Judgement, judge_hypotheses
from core.types import Features, Verdict

BLOWN_UP = 8.0
"""From how many times the length of clean features on a trigger alone is no reason to call an encoder backdoored."""


def stretch(triggered: Features, clean: Features) -> float:
    """How many times as long triggered features ``[N, D]`` are as clean ones ``[M, D]``: the ratio of medians."""
    return float(triggered.norm(dim=1).median() / clean.norm(dim=1).median().clamp_min(1e-12))


def judge_without_blow_ups(
    results: Sequence[HypothesisResult], found: Sequence[Sequence[Candidate]], clean: Features
) -> Judgement:
    """The verdict, which no trigger that blows features up makes *backdoored*: by itself it makes *inconclusive*.

    ``found`` has the candidates of the kinds in ``results``, best first; ``clean`` are clean images' features.
    """
    judged = judge_hypotheses(results)
    if judged.verdict is not Verdict.BACKDOORED:
        return judged
    kinds = {kind[0].hypothesis.name: kind for kind in found}
    held, longest = [], 0.0
    for result in results:
        candidates = kinds.get(result.name)  # none of a row that compares two searches
        if candidates is None:
            best = result.score
        else:
            stretches = [stretch(candidate.features, clean) for candidate in candidates]
            if result.score >= result.threshold:  # what the reason speaks of
                longest = max(longest, stretches[0])
            sound = [c.similarity for c, times in zip(candidates, stretches, strict=True) if times < BLOWN_UP]
            best = max(sound, default=-1.0)
        if best >= result.threshold:
            held.append(replace(result, score=best))
    if held:
        return judge_hypotheses(held)
    reason = (
        f"But it makes them {longest:.0f} times as long as those of clean images, which drives the encoder out of its "
        f"range, as some patches do on clean encoders. From {BLOWN_UP:.0f} times on that is no proof of a backdoor."
    )
    return replace(judged, verdict=Verdict.INCONCLUSIVE, reasons=(*judged.reasons, reason), blown_up=True)
