"""``canary``: what could this audit have seen? Known backdoors are planted in copies of the encoder and looked for.

"Clean" says little if the detection is blind on this encoder or with these images. So the same detection, with the same
parameters, images and seed, is run on copies that are known to be backdoored, and the report says how many it found.
"""

from __future__ import annotations

from dataclasses import replace

from core.canary.planted import CANARIES, CanarySpec, plant_canary
from core.kinds.detect import judge, judging_stages
from core.kinds.findings import Canary, Findings, Subject
from core.methods import Choice, Detect, Unlearn
from core.run import Run, StageRun

GIVEN = "as given"
"""Prefix of the stages that judge the encoder itself."""


def canary(subject: Subject, detection: Choice[Detect], unlearning: Choice[Unlearn], steps: int, run: Run) -> Findings:
    """Judge the encoder as given, then a copy for each of :data:`CANARIES`, each as ``detect`` would."""
    run.plan(_stages(subject, detection, unlearning))
    found = judge(subject, detection, unlearning, StageRun(run, GIVEN))
    return Findings(found, canaries=tuple(_one(subject, detection, unlearning, spec, steps, run) for spec in CANARIES))


def _one(
    subject: Subject,
    detection: Choice[Detect],
    unlearning: Choice[Unlearn],
    spec: CanarySpec,
    steps: int,
    run: Run,
) -> Canary:
    aside = StageRun(run, spec.name)
    planted = plant_canary(subject.encoder, subject.images, spec, steps, aside, seed=subject.seed)
    if not planted.took:
        return Canary(spec.name, False, planted.attraction, planted.kept, None)
    seen = judge(replace(subject, encoder=planted.encoder), detection, unlearning, aside)
    return Canary(spec.name, True, planted.attraction, planted.kept, seen)


def _stages(subject: Subject, detection: Choice[Detect], unlearning: Choice[Unlearn]) -> dict[str, float]:
    """A planting step of 128 images costs about nine passes of each: what the shares of a detection are counted in
    is not known here, so a planting is taken for as long as a detection."""
    search = judging_stages(subject, detection, unlearning)
    plan = {f"{GIVEN}: {name}": share for name, share in search.items()}
    for spec in CANARIES:
        plan[f"{spec.name}: plant backdoor"] = 1.0
        plan |= {f"{spec.name}: {name}": share for name, share in search.items()}
    return plan
