"""Which parts an audit has, in encoder passes: those that are sure to come, and those that depend on what is found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from core.attacks.planting import STAGE as PLANT_STAGE
from core.canary.audit import GIVEN
from core.canary.planted import CANARIES, planting_passes
from core.cleansing.pipeline import MORE_STAGES
from core.kinds.detect import SECOND, SURROGATE
from core.kinds.findings import Subject
from core.kinds.purify import MOST_ROUNDS, VERIFY
from core.methods import Choice, Cleanse, Detect, Method, Train, Unlearn
from core.passes import Passes, Workload, total
from core.recovery.yardstick import is_measured

MOST_TARGETS = 3
"""Targets that a detection expands at most."""


@dataclass(frozen=True)
class Part:
    """A part of an audit: what it is in words, its stages, and whether it is ``certain`` to come. ``settles_from``: the
    share of it after which a search that stops by itself may be done."""

    name: str
    stages: Mapping[str, Passes]
    certain: bool = True
    settles_from: float = 1.0

    @property
    def passes(self) -> Passes:
        """All of its stages together, at most."""
        return total(self.stages.values())


Outline = tuple[Part, ...]


def detect_outline(subject: Subject, detection: Choice[Detect], unlearning: Choice[Unlearn]) -> Outline:
    """The parts of ``detect``. A second method is asked in a measured family, a purified copy made in another."""
    return (_search(detection, subject.load), *_doubt(subject, detection, unlearning), *_expansion(subject, detection))


def purify_outline(subject: Subject, detection: Choice[Detect], purification: Choice[Unlearn]) -> Outline:
    """The parts of ``purify``: an encoder in which nothing is found is searched once, and nothing more."""
    load = subject.load
    again = _prefixed(VERIFY, detection.passes(load))
    one_round = {**purification.passes(load), **again}
    more = {f"round {n}: {name}": passes for n in range(2, MOST_ROUNDS + 1) for name, passes in one_round.items()}
    parts = [
        _search(detection, load),
        *_doubt(subject, detection, purification),
        *_expansion(subject, detection),
        Part("unlearning what was found, and searching the copy", one_round, certain=False),
    ]
    if purification.method.uses_new_triggers:
        parts.append(Part(f"up to {MOST_ROUNDS - 1} more rounds, if the copy shows new triggers", more, certain=False))
    return tuple(parts)


def canary_outline(subject: Subject, detection: Choice[Detect], unlearning: Choice[Unlearn], steps: int) -> Outline:
    """The parts of ``canary``: the copy of a backdoor that did not take is not searched."""
    load, settles = subject.load, detection.method.settles_from
    planting = {f"{spec.name}: {PLANT_STAGE}": planting_passes(steps, load) for spec in CANARIES}
    copies: dict[str, Passes] = {}
    doubt: dict[str, Passes] = {}
    for spec in CANARIES:
        copies |= _prefixed(spec.name, detection.passes(load))
        for part in _doubt(subject, detection, unlearning):
            doubt |= _prefixed(spec.name, part.stages)
    parts = [
        Part("searching for triggers", _prefixed(GIVEN, detection.passes(load)), settles_from=settles),
        Part(f"planting {len(CANARIES)} backdoors", planting),
        Part("searching the copies in which they took", copies, False, settles),
        *(replace(part, stages=_prefixed(GIVEN, part.stages)) for part in _doubt(subject, detection, unlearning)),
    ]
    if doubt:
        parts.append(Part("the same for the copies", doubt, certain=False))
    return tuple(parts)


def cleanse_outline(subject: Subject, cleansing: Choice[Cleanse], threat_model: Choice[Train]) -> Outline:
    """The parts of ``cleanse``: a classifier is trained where a trigger was found."""
    plan = cleansing.passes(subject.load)
    sure = {name: passes for name, passes in plan.items() if name not in MORE_STAGES}
    more = {name: passes for name, passes in plan.items() if name in MORE_STAGES}
    training: Outline = ()
    if subject.fresh is not None:
        training = (Part("training an encoder on the images", threat_model.passes(subject.load)),)
    return (*training, Part("searching the images", sure), Part("judging every image by what was found", more, False))


def _search(detection: Choice[Detect], load: Workload) -> Part:
    return Part("searching for triggers", detection.passes(load), settles_from=detection.method.settles_from)


def _doubt(subject: Subject, detection: Choice[Detect], unlearning: Choice[Unlearn]) -> Outline:
    if detection.method.expand_triggers is None or is_measured(subject.encoder, detection.config):
        return _second_opinion(detection, subject.load)
    stages = {**unlearning.passes(subject.load), **detection.passes(subject.load)}
    name = "unlearning and searching a copy, if the answer is not plainly clean"
    return (Part(name, _prefixed(SURROGATE, stages), certain=False),)


def _second_opinion(detection: Choice[Detect], load: Workload) -> Outline:
    second: Method[Detect] | None = detection.method.second
    if second is None:
        return ()
    stages = _prefixed(SECOND, second.stage_plan(second.config(), load))
    return (Part("asking a second method, in doubt", stages, False, second.settles_from),)


def _expansion(subject: Subject, detection: Choice[Detect]) -> Outline:
    stages = detection.expansion_passes(MOST_TARGETS, subject.load)
    if not stages:
        return ()
    return (Part(f"following up to {MOST_TARGETS} targets of what was found", stages, certain=False),)


def _prefixed(prefix: str, stages: Mapping[str, Passes]) -> dict[str, Passes]:
    return {f"{prefix}: {name}": passes for name, passes in stages.items()}
