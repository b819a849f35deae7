"""What a detection goes on to after its search: by its verdict, and by whose clean encoders that rests on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pytest

from core.config import MethodConfig
from core.kinds.detect import detect, judging_stages
from core.kinds.findings import Findings, Subject
from core.kinds.purify import purify
from core.methods import Choice, Detect, Method, Unlearn
from core.passes import Passes
from core.recovery.bands import shipped_observations
from core.recovery.detection import Detection, HypothesisResult, RecoveredTrigger
from core.recovery.nulls import null_for, similarity_at
from core.recovery.power import Worth
from core.recovery.verdict import compared, judge_hypotheses
from core.registry import DETECTION
from core.run import QuietRun, Run
from core.types import Encoder, ImageSet, Trigger, Verdict
from core.unlearning.result import Unlearning
from tests.unit.audited import encoder, images, patch, unlearnt

HYPOTHESIS = "masked@0.03"
CLEAN = 0.4


class Recorder(QuietRun):
    """The stages in the order in which they began."""

    def __init__(self) -> None:
        self.began: list[str] = []

    def steps(self, name, total, *, state=None):  # type: ignore[no-untyped-def]
        self.began.append(name)
        return super().steps(name, total, state=state)


def found(x: float, *, calibrated: bool) -> Detection:
    """The verdict on an encoder of no measured family that scores ``x``, or the same said of one that is measured."""
    null = null_for(HYPOTHESIS, "stranger", shipped_observations())
    assert null is not None
    row = compared(HYPOTHESIS, HYPOTHESIS, [similarity_at(x, CLEAN)], CLEAN, null)
    judged = judge_hypotheses([row])
    triggers = (RecoveredTrigger("patch", patch(), 0.97, 0.03, "fraction of pixels"),)
    clean = judged.verdict is Verdict.CLEAN
    return Detection(
        "fake", judged.verdict, judged.score, judged.threshold, judged.reasons, (row,), () if clean else triggers,
        clean_similarity=CLEAN, calibrated=calibrated, pending_targets=0 if clean else 1,
    )  # fmt: skip


def limits() -> tuple[float, float]:
    """The x from which on a stranger is doubtful, and from which on it is backdoored."""
    null = null_for(HYPOTHESIS, "stranger", shipped_observations())
    assert null is not None
    return null.limit(0.1), null.limit(0.001)


def other(verdict: Verdict) -> Method[Detect]:
    """A method that says ``verdict`` of every encoder."""

    def apply(encoder: Encoder, images: ImageSet, config: Any, run: Run, *, seed: int) -> Detection:
        for _ in run.steps("shrink", 1):
            pass
        row = HypothesisResult("smallest", 0.96, 0.95, (0.96,))
        return Detection("other", verdict, 0.96, 0.95, ("It is small.",), (row,))

    return Method("other", "Other", "", MethodConfig, apply, lambda config, load: {"shrink": Passes(3.0)})


def detection(suspect: Encoder, first: Detection, copies: float, second: Method[Detect] | None) -> Choice[Detect]:
    """Says ``first`` of ``suspect`` and of every copy that it scores ``copies``."""

    def apply(encoder: Encoder, images: ImageSet, config: Any, run: Run, *, seed: int) -> Detection:
        for _ in run.steps("search", 1):
            pass
        return first if encoder is suspect else found(copies, calibrated=False)

    def expand_triggers(
        encoder: Encoder, images: ImageSet, config: Any, found: Detection, run: Run, *, seed: int
    ) -> Detection:
        for _ in run.steps("expand", 1):
            pass
        return replace(found, triggers=found.triggers * 2, pending_targets=0)

    def score_kinds(
        encoder: Encoder, images: ImageSet, config: Any, kinds: Collection[str], run: Run, *, seed: int
    ) -> dict[str, float]:
        for _ in run.steps("search", 1):
            pass
        return dict.fromkeys(kinds, copies)

    plan = {"search": Passes(1.0)}
    method = Method(
        "fake", "Fake", "", MethodConfig, apply, lambda config, load: plan,
        expand_triggers=expand_triggers, expansion_plan=lambda config, targets, load: {"expand": Passes(1.0)},
        score_kinds=score_kinds, second=second,
    )  # fmt: skip
    return Choice(method, "default", MethodConfig())


def unlearning(given: list[int]) -> Choice[Unlearn]:
    """Changes nothing, and notes down how many triggers it got."""

    def apply(
        encoder: Encoder, images: ImageSet, triggers: Sequence[Trigger], config: Any, run: Run, *, seed: int
    ) -> Unlearning:
        given.append(len(triggers))
        for _ in run.steps("unlearn", 1):
            pass
        return unlearnt()

    method = Method("keeps", "Keeps", "", MethodConfig, apply, lambda config, load: {"unlearn": Passes(1.0)})
    return Choice(method, "default", MethodConfig())


def audited(
    kind: Any, first: Detection, copies: float, second: Method[Detect] | None = None
) -> tuple[Findings, list[str], list[int]]:
    suspect, run, given = encoder(), Recorder(), list[int]()
    subject = Subject(suspect, images(), 0)
    findings = kind(subject, detection(suspect, first, copies, second), unlearning(given), run)
    return findings, run.began, given


DOUBTFUL, CERTAIN = limits()
COPY = ["surrogate: unlearn", "surrogate: search"]


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_clean_encoder_costs_one_search(calibrated: bool) -> None:
    for kind in (detect, purify):
        findings, began, given = audited(kind, found(DOUBTFUL - 0.5, calibrated=calibrated), 0.5)
        assert findings.verdict is Verdict.CLEAN
        assert began == ["search"] and not given


def test_doubt_about_a_stranger_is_settled_before_its_triggers_are_expanded() -> None:
    doubtful = found((DOUBTFUL + CERTAIN) / 2, calibrated=False)
    assert doubtful.verdict is Verdict.INCONCLUSIVE
    for kind in (detect, purify):
        findings, began, given = audited(kind, doubtful, DOUBTFUL - 0.1)
        assert findings.verdict is Verdict.CLEAN and not findings.detection.triggers
        assert began == ["search", *COPY] and given == [1]


def test_a_stranger_far_above_its_copy_but_not_all_clean_encoders_stays_doubtful() -> None:
    """A clean copy withstands what was unlearnt: it accuses nobody alone."""
    doubtful = found((DOUBTFUL + CERTAIN) / 2, calibrated=False)
    findings, began, given = audited(detect, doubtful, -1.5)
    assert findings.verdict is Verdict.INCONCLUSIVE and len(findings.detection.triggers) == 2
    assert began == ["search", *COPY, "expand"] and given == [1]
    findings, began, given = audited(purify, doubtful, -1.5)
    assert began == ["search", *COPY, "expand", "unlearn", "verify: search"] and given == [1, 2]


def test_a_certain_stranger_is_expanded_first_and_one_copy_serves_twice() -> None:
    certain = found(CERTAIN + 1, calibrated=False)
    findings, began, given = audited(detect, certain, 0.0)
    assert findings.verdict is Verdict.BACKDOORED
    assert began == ["search", "expand", *COPY] and given == [2]
    findings, began, given = audited(purify, certain, 0.0)
    assert findings.verdict is Verdict.BACKDOORED and findings.detection.calibrated
    assert began == ["search", "expand", "unlearn", "verify: search"] and given == [2]


def test_a_measured_family_needs_no_copy() -> None:
    for kind, later in ((detect, []), (purify, ["unlearn", "verify: search"])):
        findings, began, _ = audited(kind, found(CERTAIN + 1, calibrated=True), 0.0)
        assert findings.verdict is Verdict.BACKDOORED
        assert began == ["search", "expand", *later]


@pytest.mark.parametrize("said", [Verdict.BACKDOORED, Verdict.INCONCLUSIVE, Verdict.CLEAN])
def test_doubt_in_a_measured_family_is_put_to_a_second_method_which_can_only_accuse(said: Verdict) -> None:
    doubtful = found((DOUBTFUL + CERTAIN) / 2, calibrated=True)
    for kind in (detect, purify):
        findings, began, _ = audited(kind, doubtful, 0.0, other(said))
        concluded = findings.detection
        accused = said is Verdict.BACKDOORED
        assert concluded.verdict is (said if accused else Verdict.INCONCLUSIVE)
        assert (concluded.score, concluded.threshold) == (
            (0.96, 0.95) if accused else (doubtful.score, doubtful.threshold)
        )
        assert [row.name for row in concluded.hypotheses] == [HYPOTHESIS, "smallest (Other)"]
        assert concluded.decided_by == ("smallest (Other)" if accused else HYPOTHESIS)
        assert f"says {said}: It is small." in concluded.reasons[0 if said is Verdict.BACKDOORED else -1]
        assert began[:3] == ["search", "second opinion: shrink", "expand"]


@pytest.mark.parametrize("said", [Verdict.BACKDOORED, Verdict.INCONCLUSIVE, Verdict.CLEAN])
def test_so_is_a_clean_answer_with_little_to_spare(said: Verdict) -> None:
    trigger = RecoveredTrigger("patch", patch(), 0.9, 0.03, "fraction of pixels")
    close = replace(found(DOUBTFUL - 0.1, calibrated=True), reserve=(trigger, replace(trigger, target=1)))
    for kind in (detect, purify):
        findings, began, given = audited(kind, close, 0.0, other(said))
        concluded = findings.detection
        assert began[:2] == ["search", "second opinion: shrink"] and not concluded.reserve
        assert f"says {said}: It is small." in concluded.reasons[0 if said is Verdict.BACKDOORED else -1]
        if said is Verdict.BACKDOORED:
            assert concluded.verdict is said and len(concluded.triggers) == 4 and began[2] == "expand"
        else:
            assert concluded.verdict is Verdict.CLEAN and not concluded.triggers and began[2:] == [] and not given
    uncalibrated = replace(close, calibrated=False)
    findings, began, _ = audited(detect, uncalibrated, 0.0, other(said))
    assert findings.verdict is Verdict.CLEAN and began == ["search"] and not findings.detection.reserve


@pytest.mark.parametrize(
    ("x", "calibrated"), [(CERTAIN + 1, True), (DOUBTFUL - 0.5, True), ((DOUBTFUL + CERTAIN) / 2, False)]
)
def test_nobody_else_is_asked_where_there_is_no_doubt_or_a_copy_settles_it(x: float, calibrated: bool) -> None:
    for kind in (detect, purify):
        _, began, _ = audited(kind, found(x, calibrated=calibrated), DOUBTFUL - 0.1, other(Verdict.BACKDOORED))
        assert "second opinion: shrink" not in began


def test_the_second_opinion_of_the_default_method_is_decree() -> None:
    assert DETECTION[0].second is not None and DETECTION[0].second.key == "decree"


def weighing(first: Detection, objections: tuple[str, ...], suspect: Encoder) -> Choice[Detect]:
    choice = detection(suspect, first, 0.0, None)
    worth = Worth(objections, "It found 7 of 8.")
    return replace(choice, method=replace(choice.method, worth=lambda config, size: worth))


def test_nothing_found_is_clean_only_if_the_search_was_worth_it() -> None:
    nothing = found(DOUBTFUL - 0.5, calibrated=True)
    suspect = encoder()
    subject = Subject(suspect, images(), 0)
    short = "The search for masked patterns was cut short."
    for kind in (detect, purify):
        findings = kind(subject, weighing(nothing, (short,), suspect), unlearning([]), QuietRun())
        assert findings.verdict is Verdict.INCONCLUSIVE and short in findings.detection.reasons
        assert findings.unlearning is None
        findings = kind(subject, weighing(nothing, (), suspect), unlearning([]), QuietRun())
        assert findings.verdict is Verdict.CLEAN and findings.detection.reasons[-1] == "It found 7 of 8."


def test_so_is_a_purified_copy() -> None:
    suspect = encoder()
    choice = weighing(found(CERTAIN + 1, calibrated=True), ("Too short.",), suspect)
    findings = purify(Subject(suspect, images(), 0), choice, unlearning([]), QuietRun())
    assert findings.verdict is Verdict.BACKDOORED and findings.verification is not None
    assert findings.verification.verdict is Verdict.INCONCLUSIVE


def test_bounds_that_no_clean_encoder_was_searched_with_acquit_nobody() -> None:
    nothing = found(DOUBTFUL - 0.5, calibrated=True)
    nothing = replace(nothing, hypotheses=tuple(replace(row, measured=False) for row in nothing.hypotheses))
    suspect = encoder()
    findings = detect(Subject(suspect, images(), 0), weighing(nothing, (), suspect), unlearning([]), QuietRun())
    assert findings.verdict is Verdict.INCONCLUSIVE and HYPOTHESIS in findings.detection.reasons[1]


def test_other_parameters_in_a_measured_family_plan_the_copy_that_they_may_need() -> None:
    suspect = encoder()
    suspect.architecture = shipped_observations()[0].family.partition(" at ")[0]
    subject = Subject(suspect, images(), 0)
    method = DETECTION[0]
    default = Choice(method, "default", method.config())
    other = Choice(method, "default", method.config(steps=130))  # type: ignore[call-arg]
    assert set(judging_stages(subject, default, unlearning([]))) == set(default.stages())
    assert "surrogate: unlearn" in judging_stages(subject, other, unlearning([]))
