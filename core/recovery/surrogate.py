"""Calibration on the spot: a suspect of an unknown family, held against a purified copy of itself.

Unlearning the triggers that a search found costs a backdoored encoder its backdoor, and a clean one next to nothing:
the next search in its copy finds another universal perturbation that is about as strong. So the copy scores what a
clean encoder of this architecture and training would, and the distance between the two scores tells them apart. How
far two clean encoders of one family lie apart by chance is known from the families that were measured.

The copy is believed only if it scores what clean encoders of *some* family do: were the backdoor still in it, suspect
and copy would agree, and agreement would pass for innocence. Not in the SSLDefender paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from core.recovery.detection import About, Detection, HypothesisResult
from core.recovery.nulls import PRIOR_DEVIATION, Null, Observation, null_for, remaining_gap, scatter
from core.recovery.verdict import ALARM, DOUBT, compared, judge_hypotheses
from core.types import Verdict

SOURCE = "a purified copy of itself"
NO_FAMILY = ""
"""A family that no encoder is of: the null of all families together."""

BEYOND_DOUBT = 3.0
"""How far beyond the limit of all families x is from there on: the gap that is left to 1 is a twentieth of the limit's.
Measured: 1.7 at most on clean encoders, .8 to 2.5 on planted patches, 3.9 and more on patterns over the whole image."""


def against_surrogate(found: Detection, surrogate: Detection, observed: Sequence[Observation]) -> Detection:
    """``found`` with thresholds from ``surrogate``, the same detection on a purified copy of the suspect.

    Where the copy cannot serve, nothing settles whether the score is that of a backdoor or of this kind of encoder, and
    the verdict is ``inconclusive``. Were a backdoor still in it, unlearning would have failed on what it does away with
    as a rule; what no unlearning does away with is rather the encoder's nature. Only a score beyond all that is known
    of clean encoders (``BEYOND_DOUBT``) needs no copy.

    A kind of trigger of which the copy, or the clean encoders, say nothing can end in no verdict of clean.
    """
    assert found.clean_similarity is not None
    if surrogate.clean_similarity is None or not surrogate.hypotheses:
        return _unusable(found, "nothing could be concluded from the copy", observed)
    # Triggers that blow features up prove nothing, in the suspect as little as in its copy.
    copies = {
        row.key: remaining_gap(row.sound[0], surrogate.clean_similarity) for row in surrogate.hypotheses if row.sound
    }
    rows: list[HypothesisResult] = []
    unjudged: list[HypothesisResult] = []
    for row in found.hypotheses:
        if row.half is not None:
            rows.append(row)  # it is held against the suspect itself, not against others
            continue
        everywhere = null_for(row.key, NO_FAMILY, observed)
        if row.key not in copies or everywhere is None or not row.sound:
            unjudged.append(row)
            continue
        if copies[row.key] > everywhere.limit(DOUBT):
            return _unusable(found, f"the copy still scores more than clean encoders do ({row.name})", observed)
        deviation, degrees = scatter(row.key, observed) or (PRIOR_DEVIATION, 0)
        null = Null(copies[row.key], deviation, 1, degrees, own_family=True, source=SOURCE)
        whole = row.whole if row.sound[0] == row.score else None  # it is the best one's, which may be blown up
        rows.append(replace(compared(row.name, row.key, row.sound, found.clean_similarity, null), whole=whole))
    if all(row.half is not None for row in rows):
        return _unusable(found, "no kind of trigger has been measured on clean encoders", observed)
    judged = judge_hypotheses(rows)
    verdict, reasons = judged.verdict, judged.reasons
    if verdict is Verdict.CLEAN and unjudged:
        names = ", ".join(row.name for row in unjudged)
        verdict = Verdict.INCONCLUSIVE
        reasons += (f"The copy says nothing of this: {names}. So the encoder is not called clean.",)
    dealt_with = {caveat.sentence for caveat in found.caveats if caveat.about is About.FAMILY}
    rest = tuple(caveat for caveat in found.caveats if caveat.about is not About.FAMILY)
    return replace(
        found,
        verdict=verdict,
        score=judged.score,
        threshold=judged.threshold,
        reasons=(*reasons, *(reason for reason in found.reasons[1:] if reason not in dealt_with)),
        hypotheses=(*rows, *unjudged),
        triggers=() if verdict is Verdict.CLEAN else found.triggers,
        unfollowed=0 if verdict is Verdict.CLEAN else found.unfollowed,
        calibrated=not rest,
        caveats=rest,
    )


def _unusable(found: Detection, why: str, observed: Sequence[Observation]) -> Detection:
    note = f"A purified copy of it could not serve as a yardstick: {why}."
    if found.verdict is Verdict.BACKDOORED and _is_beyond_doubt(found, observed):
        return replace(found, reasons=(*found.reasons, note))
    note += " So nothing settles whether such scores are a backdoor's or usual for encoders of its kind."
    return replace(found, verdict=Verdict.INCONCLUSIVE, reasons=(*found.reasons, note))


def _is_beyond_doubt(found: Detection, observed: Sequence[Observation]) -> bool:
    assert found.clean_similarity is not None
    for row in found.hypotheses:
        everywhere = null_for(row.key, NO_FAMILY, observed)
        if row.half is None and row.sound and everywhere is not None:
            x = remaining_gap(row.sound[0], found.clean_similarity)
            if x >= everywhere.limit(ALARM) + BEYOND_DOUBT:
                return True
    return False
