"""Calibration on the spot: a suspect of an unknown family, held against a purified copy of itself.

Unlearning the triggers that a search found costs a backdoored encoder its backdoor, and a clean one next to nothing:
the next search in its copy finds another universal perturbation that is about as strong. So the copy scores what a
clean encoder of this architecture and training would, and the distance between the two scores tells them apart. How
far two clean encoders of one family lie apart by chance is known from the families that were measured.

The copy is believed only if it scores what clean encoders of *some* family do: were the backdoor still in it, suspect
and copy would agree, and agreement would pass for innocence. And it accuses nobody alone: unlearning an opaque patch
makes a clean copy withstand patches as well (a ShuffleNet of 48 pixels scored 3.1 and its copy .7), so a backdoor is
only what no clean encoder of any family scores either. What lies between is doubtful. Not in the SSLDefender paper.

A copy costs an unlearning and a search, so it is asked only what it can settle (:func:`undecided`): not a score that no
copy would make an alarm, nor one that is beyond all doubt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def undecided(found: Detection, observed: Sequence[Observation]) -> frozenset[str]:
    """The keys of the kinds of trigger of ``found`` that a copy can settle. None where a score is beyond doubt.

    A copy scores no less than the lowest of the clean encoders. A suspect that would not be doubtful beside that one is
    not beside any copy.
    """
    if is_beyond_doubt(found, observed):
        return frozenset()
    return frozenset(row.key for row in _judged_by_others(found) if _is_open(row, found, observed))


def against_surrogate(found: Detection, copies: Mapping[str, float], observed: Sequence[Observation]) -> Detection:
    """``found`` with thresholds from a purified copy of the suspect, whose x by the kind of trigger are ``copies``:
    those of the kinds that were :func:`undecided`, or of more. The others are held against the lowest clean encoder.

    Where the copy cannot serve, nothing settles whether the score is that of a backdoor or of this kind of encoder, and
    the verdict is ``inconclusive``. Were a backdoor still in it, unlearning would have failed on what it does away with
    as a rule; what no unlearning does away with is rather the encoder's nature. Only a score beyond all that is known
    of clean encoders (``BEYOND_DOUBT``) needs no copy.

    A kind of trigger of which the copy, or the clean encoders, say nothing can end in no verdict of clean.
    """
    assert found.clean_similarity is not None
    if not copies and is_beyond_doubt(found, observed):
        return replace(found, reasons=(*found.reasons, "That is beyond all that clean encoders of any family score."))
    rows: list[HypothesisResult] = []
    unjudged: list[HypothesisResult] = []
    for row in found.hypotheses:
        if row.half is not None:
            rows.append(row)  # it is held against the suspect itself, not against others
            continue
        everywhere = null_for(row.key, NO_FAMILY, observed)
        unsettled = row.key not in copies and _is_open(row, found, observed)
        if everywhere is None or not row.sound or unsettled:
            unjudged.append(row)
            continue
        if copies.get(row.key, 0.0) > everywhere.limit(DOUBT):
            return _unusable(found, f"the copy still scores more than clean encoders do ({row.name})", observed)
        null = _null_of(row.key, copies[row.key], SOURCE, observed) if row.key in copies else _lowest(row.key, observed)
        whole = row.raw_similarity if row.sound[0] == row.score else None  # it is the best one's, which may be blown up
        judged_row = compared(row.name, row.key, row.sound, found.clean_similarity, null, least=everywhere.limit(ALARM))
        rows.append(replace(judged_row, raw_similarity=whole))
    if all(row.half is not None for row in rows):
        return _unusable(found, "nothing could be concluded from the copy", observed)
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
        pending_targets=0 if verdict is Verdict.CLEAN else found.pending_targets,
        calibrated=not rest,
        caveats=rest,
    )


def scores_of(detection: Detection) -> dict[str, float]:
    """The x by the kind of trigger of a whole detection, as ``copies`` of :func:`against_surrogate`. Triggers that blow
    features up prove nothing, in a copy as little as in a suspect."""
    clean = detection.clean_similarity
    if clean is None:
        return {}
    return {row.key: remaining_gap(row.sound[0], clean) for row in _judged_by_others(detection) if row.sound}


def is_beyond_doubt(found: Detection, observed: Sequence[Observation]) -> bool:
    """Whether ``found`` is a backdoor whatever a copy would score."""
    if found.verdict is not Verdict.BACKDOORED or found.clean_similarity is None:
        return False
    for row in _judged_by_others(found):
        everywhere = null_for(row.key, NO_FAMILY, observed)
        if row.sound and everywhere is not None:
            x = remaining_gap(row.sound[0], found.clean_similarity)
            if x >= everywhere.limit(ALARM) + BEYOND_DOUBT:
                return True
    return False


def _judged_by_others(found: Detection) -> tuple[HypothesisResult, ...]:
    """The rows that are held against other encoders, not against the suspect itself."""
    return tuple(row for row in found.hypotheses if row.half is None)


def _is_open(row: HypothesisResult, found: Detection, observed: Sequence[Observation]) -> bool:
    """Whether the answer for ``row`` hangs on what a copy scores."""
    if not row.sound or not any(row.key in one.scores for one in observed):
        return False  # no copy makes up for that
    assert found.clean_similarity is not None
    return remaining_gap(row.sound[0], found.clean_similarity) >= _lowest(row.key, observed).limit(DOUBT)


def _lowest(key: str, observed: Sequence[Observation]) -> Null:
    """The null that a copy would set that scores as little as any clean encoder has."""
    seen = [one.scores[key] for one in observed if key in one.scores]
    return _null_of(key, min(seen), f"{len(seen)} clean encoders of other families, by the lowest of them", observed)


def _null_of(key: str, x: float, source: str, observed: Sequence[Observation]) -> Null:
    deviation, degrees = scatter(key, observed) or (PRIOR_DEVIATION, 0)
    return Null(x, deviation, 1, degrees, own_family=True, source=source)


def _unusable(found: Detection, why: str, observed: Sequence[Observation]) -> Detection:
    note = f"A purified copy of it could not serve as a yardstick: {why}."
    if is_beyond_doubt(found, observed):
        return replace(found, reasons=(*found.reasons, note))
    note += " So nothing settles whether such scores are a backdoor's or usual for encoders of its kind."
    return replace(found, verdict=Verdict.INCONCLUSIVE, reasons=(*found.reasons, note))
