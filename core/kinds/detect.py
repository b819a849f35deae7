"""``detect``: is this encoder backdoored, and by which trigger?"""

from __future__ import annotations

from dataclasses import replace

from core.kinds.findings import Findings, Subject
from core.methods import Choice, Detect, Unlearn
from core.recovery.bands import shipped_observations
from core.recovery.detection import Detection
from core.recovery.second_opinion import settled_by, wants_another
from core.recovery.surrogate import against_surrogate, undecided
from core.recovery.yardstick import is_measured
from core.run import Run, StageRun
from core.types import Encoder, ImageSet, Verdict

SURROGATE = "surrogate"
"""Prefix of the stages that make and search a purified copy."""
SECOND = "second opinion"
"""Prefix of the stages of another method that settles a doubt."""


def detect(subject: Subject, detection: Choice[Detect], unlearning: Choice[Unlearn], run: Run) -> Findings:
    """Run the chosen detection; nothing is changed and nothing delivered."""
    found = judge(subject, detection, unlearning, run)
    if found.verdict is not Verdict.CLEAN:
        found = expanded(subject.encoder, subject.images, found, detection, run, seed=subject.seed)
    return Findings(found)


def judge(subject: Subject, detection: Choice[Detect], unlearning: Choice[Unlearn], run: Run) -> Detection:
    """The detection's verdict with all that settles a doubt about it.

    A suspect that no clean encoder of its family, searched with the same parameters, stands beside, and that is not
    plainly clean, is held against a copy that ``unlearning`` has purified. In a measured family a second method is
    asked in doubt and close to it. What found nothing is called clean only if it is worth that (:func:`weighed`).
    """
    plan = judging_stages(subject, detection, unlearning)
    run.plan(plan)
    found = detection.method.apply(subject.encoder, subject.images, detection.config, run, seed=subject.seed)
    plan |= second_stages(found, detection)
    run.plan(plan | detection.expansion_stages(found))
    found = asked_again(subject, found, detection, run)
    if needs_surrogate(found):
        found = held_against_copy(subject, found, detection, unlearning, run)
    return weighed(subject, found, detection)


def judging_stages(subject: Subject, detection: Choice[Detect], unlearning: Choice[Unlearn]) -> dict[str, float]:
    """The stages of :func:`judge` that can be known before it, with their shares of a detection's time."""
    return detection.stages() | surrogate_stages(subject, detection, unlearning)


def weighed(subject: Subject, found: Detection, detection: Choice[Detect]) -> Detection:
    """``found``, and a verdict of clean made *inconclusive* where the search was not worth that word: shorter than any
    whose power was measured, at an image size where none was, or with bounds that no clean encoder was searched with.
    """
    if found.verdict is not Verdict.CLEAN or detection.method.worth is None:
        return found
    worth = detection.method.worth(detection.config, subject.encoder.image_size)
    objections = list(worth.objections)
    if unmeasured := ", ".join(row.name for row in found.hypotheses if not row.measured):
        objections.append(f"No clean encoder was searched with these bounds: {unmeasured}.")
    if not objections:
        return replace(found, reasons=(*found.reasons, worth.power))
    first = "Nothing was found, and that is no proof that the encoder is clean."
    return replace(found, verdict=Verdict.INCONCLUSIVE, reasons=(first, *objections, *found.reasons))


def expanded(
    encoder: Encoder, images: ImageSet, found: Detection, detection: Choice[Detect], run: Run, *, seed: int
) -> Detection:
    """``found`` with all the triggers that the method can come to from it; as it is where that has been done."""
    if detection.method.expand_triggers is None or not found.pending_targets:
        return found
    return detection.method.expand_triggers(encoder, images, detection.config, found, run, seed=seed)


def asked_again(subject: Subject, found: Detection, detection: Choice[Detect], run: Run) -> Detection:
    """``found``, and where that is doubtful or close to it, with what the method's ``second`` says of the encoder."""
    second = detection.method.second
    if second is None or not wants_another(found):
        return replace(found, reserve=())
    aside = StageRun(run, SECOND)
    said = second.apply(subject.encoder, subject.images, second.config(), aside, seed=subject.seed)
    return settled_by(found, said, second.title)


def second_stages(found: Detection, detection: Choice[Detect]) -> dict[str, float]:
    """The stages of :func:`asked_again`; none where it is not asked. One takes about a tenth of a search's time."""
    second = detection.method.second
    if second is None or not wants_another(found):
        return {}
    return {
        f"{SECOND}: {name}": 0.1 * share for name, share in Choice(second, "default", second.config()).stages().items()
    }


def needs_surrogate(found: Detection) -> bool:
    """Whether the verdict rests on clean encoders of other families or other parameters, and there is something to
    unlearn.

    Not where a trigger blows features up, or the suspect is a stranger to its family: a copy without the trigger says
    nothing about such a doubt.
    """
    doubtful = found.verdict is not Verdict.CLEAN and bool(found.triggers)
    return not found.calibrated and not found.irresolvable and doubtful


def held_against_copy(
    subject: Subject, found: Detection, detection: Choice[Detect], unlearning: Choice[Unlearn], run: Run
) -> Detection:
    """``found`` judged anew by what the same search sees in a copy without its triggers. The copy is searched only for
    the kinds of trigger that it can settle; where there are none, none is made."""
    observed = shipped_observations()
    kinds = undecided(found, observed)
    if not kinds or detection.method.score_kinds is None:
        return against_surrogate(found, {}, observed)
    if found.verdict is Verdict.BACKDOORED:
        found = expanded(subject.encoder, subject.images, found, detection, run, seed=subject.seed)
    aside = StageRun(run, SURROGATE)
    triggers = [recovered.trigger for recovered in found.triggers]
    copy = unlearning.method.apply(
        subject.encoder, subject.images, triggers, unlearning.config, aside, seed=subject.seed
    ).student
    scores = detection.method.score_kinds(copy, subject.images, detection.config, kinds, aside, seed=subject.seed)
    return against_surrogate(found, scores, observed)


def surrogate_stages(subject: Subject, detection: Choice[Detect], unlearning: Choice[Unlearn]) -> dict[str, float]:
    """The stages of :func:`held_against_copy`, for a suspect that may need it; otherwise none."""
    if detection.method.expand_triggers is None or is_measured(subject.encoder, detection.config):
        return {}
    stages = {**unlearning.stages(), **detection.stages()}
    return {f"{SURROGATE}: {name}": share for name, share in stages.items()}
