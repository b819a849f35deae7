"""``purify``: find the trigger, unlearn it, and look again."""

from __future__ import annotations

from core.kinds.findings import Findings, Subject
from core.methods import Choice, Detect, Unlearn
from core.run import Run, StageRun
from core.types import Verdict

VERIFY = "verify"
"""Prefix of the second detection's stages; their names must be unique within the run."""


def purify(subject: Subject, detection: Choice[Detect], purification: Choice[Unlearn], run: Run) -> Findings:
    """Detect; if there is something to unlearn, unlearn it from a copy and run the same detection on the copy.

    A clean encoder, or an inconclusive one without a single candidate trigger, is delivered as it came: there is
    nothing to unlearn, and the findings say so by having no ``unlearning``.
    """
    run.plan(_stages(detection, purification))
    found = detection.method.apply(subject.encoder, subject.images, detection.config, run, seed=subject.seed)
    if found.verdict is Verdict.CLEAN or not found.triggers:
        return Findings(found, delivered=subject.encoder)

    triggers = [recovered.trigger for recovered in found.triggers]
    unlearnt = purification.method.apply(
        subject.encoder, subject.images, triggers, purification.config, run, seed=subject.seed
    )
    again = detection.method.apply(
        unlearnt.student, subject.images, detection.config, StageRun(run, VERIFY), seed=subject.seed
    )
    return Findings(found, unlearnt, again, delivered=unlearnt.student)


def _stages(detection: Choice[Detect], purification: Choice[Unlearn]) -> dict[str, float]:
    search = detection.stages()
    return {**search, **purification.stages(), **{f"{VERIFY}: {name}": share for name, share in search.items()}}
