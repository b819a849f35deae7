"""``purify``: find the trigger, unlearn it, and look again, until a new search finds nothing."""

from __future__ import annotations

from dataclasses import replace

from core.kinds.detect import needs_surrogate
from core.kinds.findings import Findings, Subject
from core.methods import Choice, Detect, Unlearn
from core.recovery.bands import shipped_observations
from core.recovery.detection import Detection
from core.recovery.surrogate import against_surrogate
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
    the findings say so by having no ``unlearning``.
    """
    run.plan(_stages(detection, purification))
    found = detection.method.apply(subject.encoder, subject.images, detection.config, run, seed=subject.seed)
    if found.verdict is Verdict.CLEAN or not found.triggers:
        return Findings(found, delivered=subject.encoder)

    triggers = [recovered.trigger for recovered in found.triggers]
    for number in range(1, MOST_ROUNDS + 1):
        unlearnt = purification.method.apply(
            subject.encoder, subject.images, triggers, purification.config, _round(run, number), seed=subject.seed
        )
        again = detection.method.apply(
            unlearnt.student,
            subject.images,
            detection.config,
            StageRun(_round(run, number), VERIFY),
            seed=subject.seed,
        )
        if number == 1 and needs_surrogate(found):
            # The purified copy is at hand: it serves as the yardstick that no clean encoder of the family could be.
            found = against_surrogate(found, again, shipped_observations())
            if found.verdict is Verdict.CLEAN:
                return Findings(found, delivered=subject.encoder)
        if not (purification.method.uses_new_triggers and _worth_another_round(again)):
            break
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


def _stages(detection: Choice[Detect], purification: Choice[Unlearn]) -> dict[str, float]:
    search = detection.stages()
    return {**search, **purification.stages(), **{f"{VERIFY}: {name}": share for name, share in search.items()}}
