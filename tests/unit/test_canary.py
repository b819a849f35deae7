"""Known backdoors, planted in copies of an encoder and looked for."""

import pytest
import torch

from core.canary import audit, planted
from core.canary.audit import canary
from core.canary.planted import CANARIES, CanarySpec, plant_canary
from core.catalog import default_unlearning
from core.config import MethodConfig
from core.kinds.findings import Canary, Subject
from core.methods import Choice, Method
from core.passes import Passes
from core.recovery.detection import Detection
from core.report.canaries import canaries_part
from core.run import QuietRun
from core.types import Verdict
from tests.planted import planted_encoder_for_training, planted_images

PATCH = CanarySpec("white patch in a corner", "white-patch", side=10)


def detecting(verdicts: list[Verdict], seen: list[torch.nn.Module]) -> Choice:
    def detect(encoder, images, config, run, *, seed):  # type: ignore[no-untyped-def]
        seen.append(encoder)
        for _ in run.steps("look", 1):
            pass
        return Detection("fake", verdicts[len(seen) - 1], 0.9, 0.8, ("because",))

    return Choice(
        Method("fake", "Fake", "", MethodConfig, detect, lambda config, load: {"look": Passes(1.0)}),
        "default",
        MethodConfig(),
    )


def test_a_planted_canary_is_a_backdoor_and_leaves_the_encoder_alone() -> None:
    encoder, images = planted_encoder_for_training(), planted_images(128)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    result = plant_canary(encoder, images, PATCH, 150, QuietRun(), seed=0)
    assert result.attraction > 0.8 and result.kept > 0.8 and result.took
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    barely = plant_canary(encoder, images, PATCH, 1, QuietRun(), seed=0)
    assert barely.attraction < result.attraction


def test_every_canary_fits_every_size() -> None:
    for spec in CANARIES:
        for size in ((32, 32), (96, 64), (224, 224)):
            trigger = planted.build_trigger(spec.trigger(size), size)
            stamped = trigger(torch.full((1, 3, *size), 0.5))
            assert stamped.shape == (1, 3, *size) and not torch.equal(stamped, torch.full((1, 3, *size), 0.5))


def test_each_copy_is_looked_at_by_the_same_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([True, True, False, True])

    def plant(encoder, images, spec, steps, run, *, seed):  # type: ignore[no-untyped-def]
        for _ in run.steps("plant backdoor", 2):
            pass
        return planted.Planted(planted_encoder_for_training(), 0.95 if next(took) else 0.3, 0.99)

    monkeypatch.setattr(audit, "plant_canary", plant)
    stages: list[str] = []

    class Recorder(QuietRun):
        def plan(self, planned):  # type: ignore[no-untyped-def]
            self.planned = list(planned)

        def steps(self, name, total, *, state=None):  # type: ignore[no-untyped-def]
            stages.append(name)
            return super().steps(name, total, state=state)

    run, seen = Recorder(), []
    subject = Subject(planted_encoder_for_training(), planted_images(32), 0)
    verdicts = [Verdict.CLEAN, Verdict.BACKDOORED, Verdict.INCONCLUSIVE, Verdict.BACKDOORED]
    findings = canary(subject, detecting(verdicts, seen), default_unlearning(), 2, run)
    assert findings.detection.verdict is Verdict.CLEAN and seen[0] is subject.encoder
    assert findings.canaries is not None
    assert [one.found for one in findings.canaries] == [True, False, False, True]
    assert [one.planted for one in findings.canaries] == [True, True, False, True]
    assert len(set(stages)) == len(stages) and set(stages) <= set(run.planned)


def test_the_sentence_counts_only_what_was_planted() -> None:
    hit = Detection("fake", Verdict.BACKDOORED, 0.9, 0.8, ())
    miss = Detection("fake", Verdict.CLEAN, 0.2, 0.8, ())
    rows = [Canary("patch", True, 0.9, 0.9, hit), Canary("spectral", True, 0.9, 0.9, miss)]
    part = canaries_part([*rows, Canary("blended", False, 0.2, 0.9, None)])
    assert part is not None and (part.planted, part.found) == (2, 1)
    assert part.sentence == (
        "On this encoder, 1 of 2 planted backdoors were found; missed: spectral. Not counted, since the backdoor did "
        "not take: blended."
    )
    assert canaries_part(None) is None
    nothing = canaries_part([Canary("patch", False, 0.1, 0.9, None)])
    assert nothing is not None and "could be planted" in nothing.sentence
