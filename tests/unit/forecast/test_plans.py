"""Stage plans against the images that really go through an encoder, at sizes where grids differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from core.passes import Passes, total
from core.recovery.detection import RecoveredTrigger
from core.registry import CLEANSING, DETECTION, PURIFICATION, THREAT_MODELS
from core.triggers import MaskedTrigger
from tests.unit.forecast.counting import CountedRun, counted_encoder, load_of, noise_images

SHORT: Mapping[str, Any] = {
    "ssldefender": {
        "steps": 2,
        "additive_steps": 2,
        "spectral_steps": 2,
        "window_steps": 3,
        "target_steps": 4,
        "square_stride": 0.125,
    },
    "decree": {"max_epochs": 2},
    "ssl-cleanse": {"steps": 8},
}


def patch(side: int) -> MaskedTrigger:
    mask = torch.zeros(1, side, side)
    mask[:, -6:, -6:] = 1
    return MaskedTrigger(mask, torch.ones(3, side, side))


def assert_close(plan: Mapping[str, Passes], run: CountedRun, within: float) -> None:
    planned, counted = total(plan.values()), total(run.stages.values()) + run.before
    assert planned.backward == pytest.approx(counted.backward, rel=0.02)
    assert planned.training == counted.training
    assert planned.weight == pytest.approx(counted.weight, rel=within)


@pytest.mark.parametrize("side", [32, 64, 96])
@pytest.mark.parametrize("method", DETECTION, ids=lambda method: method.key)
def test_a_detection_takes_what_its_plan_says(method: Any, side: int) -> None:
    images, run = noise_images(100, side), CountedRun()
    config = method.config(**SHORT[method.key])
    method.apply(counted_encoder(side, run), images, config, run, seed=0)
    assert_close(method.stage_plan(config, load_of(images)), run, 0.25)  # climbers that meet share what they try


@pytest.mark.parametrize("side", [32, 64])
def test_expanding_a_target_takes_what_its_plan_says(side: int) -> None:
    method, images, run = DETECTION[0], noise_images(100, side), CountedRun()
    config = method.config(**SHORT[method.key])
    encoder = counted_encoder(side, CountedRun())
    found = method.apply(encoder, noise_images(40, side), config, CountedRun(), seed=0)
    found = replace(found, triggers=(RecoveredTrigger("patch", patch(side), 0.9, 0.1, "pixels"),), pending_targets=1)
    assert method.expand_triggers is not None and method.expansion_plan is not None
    method.expand_triggers(counted_encoder(side, run), images, config, found, run, seed=0)
    assert_close(method.expansion_plan(config, 1, load_of(images)), run, 0.1)


@pytest.mark.parametrize("method", PURIFICATION, ids=lambda method: method.key)
def test_a_purification_takes_what_its_plan_says(method: Any) -> None:
    images, run = noise_images(100, 32), CountedRun()
    steps = {name: 10 for name, field in method.config.model_fields.items() if name.endswith("steps") and field.default}
    config = method.config(**steps, max_drift=2, min_agreement=0)
    method.apply(counted_encoder(32, run), images, [patch(32)], config, run, seed=0)
    assert_close(method.stage_plan(config, load_of(images)), run, 0.1)


@pytest.mark.parametrize("method", CLEANSING, ids=lambda method: method.key)
def test_a_cleansing_takes_what_its_plan_says(method: Any) -> None:
    images, run = noise_images(400, 32), CountedRun()
    config = method.config(flip_images=64, masks=16) if method.key == "poison_cam" else method.config(flip_images=64)
    method.apply(counted_encoder(32, run), images, config, run, seed=0)
    plan = {name: passes for name, passes in method.stage_plan(config, load_of(images)).items() if name in run.stages}
    assert_close(plan, run, 0.2)


@pytest.mark.parametrize("method", THREAT_MODELS, ids=lambda method: method.key)
def test_a_training_takes_what_its_plan_says(method: Any) -> None:
    images, run = noise_images(100, 32), CountedRun()
    config = method.config(epochs=1, least_steps=0, batch_size=32)
    method.apply(counted_encoder(32, run), images, config, run, seed=0)
    assert_close(method.stage_plan(config, load_of(images)), run, 0.001)


def test_passes_add_up() -> None:
    assert (Passes(1, 2, 3) + Passes(1).times(4)).weight == 5 + 4 + 9
