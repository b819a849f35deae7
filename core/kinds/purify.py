"""``purify``: find the trigger, unlearn it, and look again, until a new search finds nothing."""

from __future__ import annotations

from dataclasses import replace

from core.kinds.detect import (
    asked_again,
    expanded,
    held_against_copy,
    needs_surrogate,
    second_stages,
    surrogate_stages,
    weighed,
)
from core.kinds.findings import Findings, Subject
from core.methods import Choice, Detect, Unlearn
from core.recovery.bands import shipped_observations
from core.recovery.detection import Detection
from core.recovery.surrogate import against_surrogate, scores_of
from core.run import Run, StageRun
from core.types import Verdict

VERIFY = "verify"
"""Prefix of the second detection's stages; their names must be unique within the run."""

MOST_ROUNDS = 3
"""Rounds of unlearning and verification. Each starts from the encoder that was given, with all triggers found so far:
a student that is taught twice drifts twice."""


def purify(subject: Subject, detection: Choice[Detect], purification: Choice[Unlearn], run: Run) -> Findings:
    """Detect; if there is something to unlearn, unlearn it from a copy and run the same detection on the copy.

    While the copy is not clean and shows new triggers, those join the old ones for another round, unless the
    purification makes no use of them: another round would be the same training again. A clean encoder, or
    an inconclusive one without a single candidate trigger, is delivered as it came: there is nothing to unlearn, and
    the findings say so by having no ``unlearning``. Doubt is settled first, as ``detect`` does it: a purification made
    in doubt would cost accuracy for nothing.

    Every look at a copy is a whole detection. One that ended at the first kind of trigger that fails would hand that
    kind alone to the next round, and rounds are few. Images that judge train no copy (``core.image_parts``).
    """
    surrogate = surrogate_stages(subject, detection, purification)
    before = detection.stages() | surrogate
    run.plan(before | _later(detection, purification))
    found = detection.method.apply(subject.encoder, subject.images, detection.config, run, seed=subject.seed)
    before |= second_stages(found, detection)
    run.plan(before | _later(detection, purification))
    found = asked_again(subject, found, detection, run)
    if needs_surrogate(found) and found.verdict is Verdict.INCONCLUSIVE:
        found = held_against_copy(subject, found, detection, purification, run)
    found = weighed(subject, found, detection)
    if found.verdict is Verdict.CLEAN or not found.triggers:
        return Findings(found, delivered=subject.encoder)
    to_compare = found.verdict is Verdict.BACKDOORED and not found.calibrated

    run.plan(before | detection.expansion_stages(found) | _later(detection, purification))
    found = expanded(subject.encoder, subject.images, found, detection, run, seed=subject.seed)
    triggers = [recovered.trigger for recovered in found.triggers]
    for number in range(1, MOST_ROUNDS + 1):
        unlearnt = purification.method.apply(
            subject.encoder, subject.images, triggers, purification.config, _round(run, number), seed=subject.seed
        )
        verify = StageRun(_round(run, number), VERIFY)
        again = detection.method.apply(unlearnt.student, subject.images, detection.config, verify, seed=subject.seed)
        again = weighed(subject, again, detection)
        if number == 1 and to_compare:
            # The purified copy is at hand: it serves as the yardstick that no clean encoder of the family could be.
            found = weighed(subject, against_surrogate(found, scores_of(again), shipped_observations()), detection)
            if found.verdict is Verdict.CLEAN:
                return Findings(found, delivered=subject.encoder)
        if number == MOST_ROUNDS or not (purification.method.uses_new_triggers and _worth_another_round(again)):
            break
        again = expanded(unlearnt.student, subject.images, again, detection, verify, seed=subject.seed)
        triggers += [recovered.trigger for recovered in again.triggers]
    if number > 1:
        note = f"{number} rounds: triggers found after a round joined the next one's."
        unlearnt = replace(unlearnt, notes=(*unlearnt.notes, note))
    return Findings(found, unlearnt, again, delivered=unlearnt.student)


def _worth_another_round(again: Detection) -> bool:
    return again.verdict is not Verdict.CLEAN and bool(again.triggers)


def _round(run: Run, number: int) -> Run:
    """The first round keeps the plain stage names, which are those of the plan."""
    return run if number == 1 else StageRun(run, f"round {number}")


def _later(detection: Choice[Detect], purification: Choice[Unlearn]) -> dict[str, float]:
    """The stages after the first detection, if one round is enough."""
    return purification.stages() | {f"{VERIFY}: {name}": share for name, share in detection.stages().items()}
