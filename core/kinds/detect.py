"""``detect``: is this encoder backdoored, and by which trigger?"""

from __future__ import annotations

from core.kinds.findings import Findings, Subject
from core.methods import Choice, Detect
from core.run import Run


def detect(subject: Subject, detection: Choice[Detect], run: Run) -> Findings:
    """Run the chosen detection method; nothing is changed and nothing delivered."""
    run.plan(detection.stages())
    found = detection.method.apply(subject.encoder, subject.images, detection.config, run, seed=subject.seed)
    return Findings(found)
