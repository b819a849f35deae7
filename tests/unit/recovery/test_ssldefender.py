"""SSLDefender's recovery on the planted backdoors and their clean twins, where the truth is known exactly."""

from dataclasses import replace

import pytest
import torch

from core.ops.cosine import similarity_to
from core.passes import TYPICAL
from core.recovery.forward import features_in_chunks
from core.recovery.preconditions import why_too_dull
from core.recovery.ssldefender import detect, expand_triggers, expansion_plan
from core.recovery.ssldefender_search import SSLDefenderConfig, stage_plan
from core.recovery.yardstick import Yardstick
from core.run import QuietRun
from core.types import Verdict
from tests.planted import Planted, planted_additive, planted_images, planted_patch

QUICK = SSLDefenderConfig(
    thresholds=(0.9995, 0.9995),
    steps=60,
    additive_steps=40,
    batch_size=24,
    square_stride=0.125,
    target_steps=12,
    amplitude=16 / 255,
)


@pytest.mark.parametrize("plant", [planted_patch, planted_additive])
def test_a_planted_backdoor_is_found_and_its_triggers_lead_where_it_leads(plant: type[Planted]) -> None:
    planted = plant()
    images = planted_images(96)
    detection = detect(planted.encoder, images, QUICK, QuietRun(), seed=0)
    assert detection.verdict is Verdict.BACKDOORED
    assert detection.margin is not None and detection.margin > 0
    assert detection.pending_targets >= 1
    expanded = expand_triggers(planted.encoder, images, QUICK, detection, QuietRun(), seed=0)
    assert expanded.pending_targets == 0 and len(expanded.triggers) > len(detection.triggers)
    for found in (detection, expanded):
        features = features_in_chunks(planted.encoder, found.triggers[0].trigger(images.batch(slice(0, 32))))
        assert float(similarity_to(features, planted.direction)) > 0.95


@pytest.mark.parametrize("plant", [planted_patch, planted_additive])
def test_the_clean_twin_is_called_clean_and_yields_no_trigger(plant: type[Planted]) -> None:
    detection = detect(plant().twin, planted_images(96), QUICK, QuietRun(), seed=0)
    assert detection.verdict is Verdict.CLEAN
    assert detection.triggers == ()
    assert detection.untested


def test_no_score_calls_a_stranger_to_its_family_backdoored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Yardstick, "why_a_stranger", lambda *_: "It is not like them.")
    planted, images = planted_patch(), planted_images(96)
    suspect = detect(planted.encoder, images, QUICK, QuietRun(), seed=0)
    assert suspect.verdict is Verdict.INCONCLUSIVE and suspect.irresolvable and suspect.triggers
    assert suspect.reasons[1] == "It is not like them."
    assert detect(planted.twin, images, QUICK, QuietRun(), seed=0).verdict is Verdict.CLEAN


def test_on_dull_images_no_score_calls_an_encoder_backdoored() -> None:
    planted, images = planted_patch(), planted_images(96)
    assert why_too_dull(images) == ()
    dull = replace(images, pixels=(images.pixels // 2 + 40).to(torch.uint8))
    suspect = detect(planted.encoder, dull, QUICK, QuietRun(), seed=0)
    assert suspect.verdict is Verdict.INCONCLUSIVE and suspect.irresolvable and suspect.triggers
    assert "duller" in suspect.reasons[1] and "0.09 of the whole range" in suspect.reasons[1]


def test_the_plan_names_the_stages_that_run() -> None:
    seen: list[str] = []

    class Recorder(QuietRun):
        def steps(self, name, total, *, state=None):  # type: ignore[no-untyped-def]
            seen.append(name)
            return super().steps(name, total, state=state)

    suspect, images = planted_patch().encoder, planted_images(64)
    found = detect(suspect, images, QUICK, Recorder(), seed=0)
    assert list(stage_plan(QUICK, TYPICAL)) == seen
    seen.clear()
    expand_triggers(suspect, images, QUICK, found, Recorder(), seed=0)
    assert list(expansion_plan(QUICK, found.pending_targets, TYPICAL)) == seen


def test_a_collapsed_encoder_is_inconclusive_never_clean() -> None:
    encoder = planted_patch().twin
    with torch.no_grad():
        encoder.backbone.suppression.fill_(1e6)  # type: ignore[union-attr]
        encoder.backbone.direction.copy_(torch.ones(32))  # type: ignore[union-attr]
    detection = detect(encoder, planted_images(64), QUICK, QuietRun(), seed=0)
    assert detection.verdict is Verdict.INCONCLUSIVE
    assert "collapsed" in detection.reasons[0]


def test_images_of_one_plain_colour_are_inconclusive() -> None:
    images = planted_images(64)
    grey = type(images)(torch.full_like(images.pixels, 128), images.names, images.digest)
    detection = detect(planted_patch().encoder, grey, QUICK, QuietRun(), seed=0)
    assert detection.verdict is Verdict.INCONCLUSIVE
    assert "plain colour" in detection.reasons[0]
