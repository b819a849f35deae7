"""Rounds of purification: as many as new triggers are found, and one for a method that makes no use of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from core.config import MethodConfig
from core.kinds.findings import Subject
from core.kinds.purify import MOST_ROUNDS, purify
from core.methods import Choice, Detect, Method, Unlearn
from core.passes import Passes
from core.recovery.detection import Detection, RecoveredTrigger
from core.registry import PURIFICATION
from core.run import QuietRun, Run
from core.types import Encoder, ImageSet, Trigger, Verdict
from core.unlearning.result import Unlearning
from tests.unit.audited import backdoored, encoder, images, patch, unlearnt


class NoConfig(MethodConfig):
    pass


def detection() -> Choice[Detect]:
    """Finds one more trigger in every encoder."""

    def apply(encoder: Encoder, images: ImageSet, config: Any, run: Run, *, seed: int) -> Detection:
        return replace(backdoored(), triggers=(RecoveredTrigger("patch", patch(), 0.97, 0.03, "fraction of pixels"),))

    return Choice(
        Method("finds", "Finds", "", NoConfig, apply, lambda config, load: {"find": Passes(1.0)}), "default", NoConfig()
    )


def purification(given: list[int], *, uses_new_triggers: bool) -> Choice[Unlearn]:
    """Notes down in ``given`` how many triggers it got, and changes nothing."""

    def apply(
        encoder: Encoder, images: ImageSet, triggers: Sequence[Trigger], config: Any, run: Run, *, seed: int
    ) -> Unlearning:
        given.append(len(triggers))
        return unlearnt()

    plan = {"unlearn": Passes(1.0)}
    method = Method(
        "keeps", "Keeps", "", NoConfig, apply, lambda config, load: plan, uses_new_triggers=uses_new_triggers
    )
    return Choice(method, "default", NoConfig())


@pytest.mark.parametrize(("uses_new_triggers", "expected"), [(True, list(range(1, MOST_ROUNDS + 1))), (False, [1])])
def test_rounds(uses_new_triggers: bool, expected: list[int]) -> None:
    given: list[int] = []
    chosen = purification(given, uses_new_triggers=uses_new_triggers)
    findings = purify(Subject(encoder(), images(), 0), detection(), chosen, QuietRun())
    assert given == expected
    assert findings.verification is not None and findings.verification.verdict is Verdict.BACKDOORED
    assert findings.unlearning is not None
    assert any("rounds" in note for note in findings.unlearning.notes) is uses_new_triggers


def test_the_catalogue_knows_who_learns_from_new_triggers() -> None:
    assert [method.key for method in PURIFICATION if method.uses_new_triggers] == ["ssldefender"]
