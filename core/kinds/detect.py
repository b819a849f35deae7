"""``detect``: is this encoder backdoored, and by which trigger?"""

from __future__ import annotations

from core.kinds.findings import Findings, Subject
from core.methods import Choice, Detect, Unlearn
from core.recovery.bands import shipped_observations
from core.recovery.detection import Detection
from core.recovery.surrogate import against_surrogate
from core.run import Run, StageRun
from core.types import Verdict

SURROGATE = "surrogate"
"""Prefix of the stages that make and search a purified copy."""


def detect(subject: Subject, detection: Choice[Detect], unlearning: Choice[Unlearn], run: Run) -> Findings:
    """Run the chosen detection; nothing is changed and nothing delivered.

    A suspect that no clean encoder of its family stands beside, and that is not plainly clean, is held against a copy
    that ``unlearning`` has purified.
    """
    run.plan(detection.stages())
    found = detection.method.apply(subject.encoder, subject.images, detection.config, run, seed=subject.seed)
    if needs_surrogate(found):
        aside = StageRun(run, SURROGATE)
        triggers = [recovered.trigger for recovered in found.triggers]
        copy = unlearning.method.apply(
            subject.encoder, subject.images, triggers, unlearning.config, aside, seed=subject.seed
        ).student
        again = detection.method.apply(copy, subject.images, detection.config, aside, seed=subject.seed)
        found = against_surrogate(found, again, shipped_observations())
    return Findings(found)


def needs_surrogate(found: Detection) -> bool:
    """Whether the verdict rests on other families' clean encoders, and there is something to unlearn."""
    return not found.calibrated and found.verdict is not Verdict.CLEAN and bool(found.triggers)
