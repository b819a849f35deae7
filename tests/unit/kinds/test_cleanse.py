"""The kind ``cleanse``: with an encoder it searches, without one it trains first; taken up again it ends the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core.catalog import KINDS, Settings, read_parameters
from core.checkpointed_run import CheckpointedRun
from core.cleansing.joining import STAGE as JOIN_STAGE
from core.cleansing.matching import STAGE as MATCH_STAGE
from core.cleansing.poison_cam import PoisonCamConfig
from core.cleansing.result import OUT_OF_REACH
from core.encoders.fresh import fresh_encoder
from core.errors import Cancelled
from core.kinds.findings import SetFindings, Subject
from core.passes import TYPICAL, total
from core.run import QuietRun, Run, Stateful
from core.training.threat_model import SimclrThreatConfig, threat_card
from core.types import Verdict
from tests.unit.cleansing.planted_set import PlantedSet, planted_set
from tests.unit.cleansing.test_cleanse import SMALL
from tests.unit.suspects import SEARCH, THREAT

KIND = KINDS["cleanse"]


class Stopping(QuietRun):
    """Notes the plan and the stages, and is cancelled after ``steps`` steps."""

    def __init__(self, steps: int = 10**9) -> None:
        self.left = steps
        self.taken = 0
        self.planned: list[str] = []
        self.stages: list[str] = []

    def plan(self, stages: Mapping[str, float]) -> None:
        self.planned = list(stages)

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        self.stages.append(name)
        for step in range(total):
            if self.taken == self.left:
                raise Cancelled
            yield step
            self.taken += 1


@pytest.fixture(scope="module")
def planted() -> PlantedSet:
    return planted_set()


def settings(**values: Any) -> Settings:
    return read_parameters(KIND, values)


def run(subject: Subject, chosen: Settings, caller: Run) -> SetFindings:
    findings = KIND.run(subject, chosen, caller)
    assert isinstance(findings, SetFindings)
    return findings


def untrained() -> Subject:
    card = threat_card(SimclrThreatConfig(), (32, 32))
    return Subject(fresh_encoder(card, seed=3), planted_set(120).images, 3, card)


TINY = {"cleansing": dict(SEARCH), "threat_model": dict(THREAT)}


def test_with_an_encoder_nothing_is_trained_and_the_poison_is_found(planted: PlantedSet) -> None:
    caller = Stopping()
    chosen = settings(cleansing={**SMALL, "masks": 100})
    findings = run(Subject(planted.encoder, planted.images, 0), chosen, caller)
    assert findings.verdict is Verdict.POISONED and findings.training is None
    assert (findings.score, findings.threshold, findings.archive) == (None, None, False)
    removed = set((~findings.cleansing.keep).nonzero().flatten().tolist())
    assert len(removed & planted.poisoned.keys()) >= 0.95 * len(planted.poisoned)
    assert caller.stages == caller.planned and "train encoder" not in caller.stages
    assert findings.cleansing.out_of_reach == OUT_OF_REACH


def test_without_an_encoder_one_is_trained_first() -> None:
    caller, subject = Stopping(), untrained()
    before = {name: value.clone() for name, value in subject.encoder.state_dict().items()}
    findings = run(subject, settings(**TINY, archive=True), caller)
    assert findings.training is not None and findings.training.steps == 3 and findings.archive
    # An untrained encoder shows no trigger, so there are no pixels to look for.
    assert caller.stages[0] == "train encoder"
    assert caller.stages == [stage for stage in caller.planned if stage not in (MATCH_STAGE, JOIN_STAGE)]
    assert all(torch.equal(value, before[name]) for name, value in subject.encoder.state_dict().items())


@pytest.fixture(scope="module")
def unbroken() -> SetFindings:
    return run(untrained(), settings(**TINY), QuietRun())


@pytest.mark.parametrize("steps", [2, 6, 16])
def test_an_interrupted_audit_keeps_the_same_images(steps: int, unbroken: SetFindings, tmp_path: Path) -> None:
    """In the training, in the search, in the training of the classifier."""
    with pytest.raises(Cancelled):
        run(untrained(), settings(**TINY), CheckpointedRun(Stopping(steps), tmp_path, every=0))
    resumed: list[str] = []
    again = CheckpointedRun(QuietRun(), tmp_path, every=0, on_resume=lambda name, step: resumed.append(name))
    findings = run(untrained(), settings(**TINY), again)
    assert resumed[0] == "train encoder"
    assert torch.equal(findings.cleansing.keep, unbroken.cleansing.keep)
    assert [c.index for c in findings.cleansing.candidates] == [c.index for c in unbroken.cleansing.candidates]
    scores = (each.cleansing.findings.classifier_score for each in (findings, unbroken))
    torch.testing.assert_close(*scores, rtol=0, atol=0)


def test_names_of_folders_decide_nothing(unbroken: SetFindings) -> None:
    subject = untrained()
    count = len(subject.images)
    renamed = replace(subject.images, names=tuple(f"class-{i % 7}/{i}.png" for i in range(count)))
    findings = run(replace(subject, images=renamed), settings(**TINY), QuietRun())
    assert torch.equal(findings.cleansing.keep, unbroken.cleansing.keep)


@pytest.mark.parametrize(
    ("size", "side", "stem"), [((32, 48), 32, 2), ((96, 96), 96, 2), ((400, 300), 224, None), ((12, 12), 32, 2)]
)
def test_the_threat_models_network_follows_the_images(size: tuple[int, int], side: int, stem: int | None) -> None:
    card = threat_card(SimclrThreatConfig(), size)
    assert card.image_size == (side, side) and card.architecture == "torchvision/resnet18"
    change = card.overrides.get("conv1")
    assert (None if change is None or isinstance(change, str) else change.stride) == stem


def test_budgets_spend_more_and_more() -> None:
    stages = KIND.sections["cleansing"][0].stage_plan
    quick, standard, paper = (
        PoisonCamConfig(**PoisonCamConfig.presets.get(name, {})) for name in ("quick", "", "paper")
    )
    costs = [total(stages(config, TYPICAL).values()).weight for config in (quick, standard, paper)]
    assert costs == sorted(costs) and len(set(costs)) == 3
