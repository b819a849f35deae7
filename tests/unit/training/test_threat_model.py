"""Threat models: trained with what every installation has, whatever the size of the set."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from core.encoders.fresh import fresh_encoder
from core.errors import UsageError
from core.methods import Method, Train
from core.passes import Passes, Workload, total
from core.random import generator
from core.registry import THREAT_MODELS
from core.run import QuietRun
from core.training.pretrain import planned_steps
from core.training.threat_model import SimclrThreatConfig, ThreatNetwork, fitted, simclr_plan, threat_card
from core.training.views import two_views
from tests.planted import planted_encoder_for_training, planted_images

EVERY = pytest.mark.parametrize("method", THREAT_MODELS, ids=lambda method: method.key)


def test_neither_the_labs_packages_nor_what_takes_seconds_is_imported() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('lightly', 'torchvision', 'timm', 'torch._dynamo')));"
        "import core.audit, core.training.trainers, api.app, worker.execute; assert core.audit.find_kind('cleanse')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@EVERY
def test_presets_are_valid_and_say_what_they_cost(method: Method[Train]) -> None:
    for values in method.presets.values():
        config = method.config.model_validate(values)
        assert method.config.model_validate_json(config.model_dump_json()) == config
    epochs = [method.config.model_validate(method.presets[name]) for name in ("quick", "default", "paper")]
    costs = [total(method.stage_plan(config, Workload(20_000, 32, 32)).values()).images for config in epochs]
    assert costs == sorted(costs) and costs[0] < costs[-1]
    assert all(field.description for field in method.config.model_fields.values())


@EVERY
def test_a_set_smaller_than_a_batch_is_one_batch(method: Method[Train]) -> None:
    encoder, images = planted_encoder_for_training(), planted_images(24)
    values: dict[str, Any] = {"epochs": 2, "least_steps": 0, "batch_size": 256, "projection_dim": 8}
    values |= {"queue": 32} if method.key == "moco-v2" else {}
    config = method.config.model_validate(values)
    first, second = (method.apply(encoder, images, config, QuietRun(), seed=1) for _ in range(2))
    assert first.steps == 2
    for name, value in first.encoder.state_dict().items():
        torch.testing.assert_close(value, second.encoder.state_dict()[name], rtol=0, atol=0)


def test_a_small_set_is_passed_over_more_often() -> None:
    config = SimclrThreatConfig(epochs=10, least_steps=800, batch_size=256)
    for images, steps in ((20000, 780), (3900, 800), (200, 800), (100_000, 3900)):
        assert planned_steps(images, fitted(config, images)) == max(steps, 800)
    assert fitted(config.model_copy(update={"least_steps": 0}), 3900).epochs == 10


@EVERY
def test_views_keep_their_colours_but_for_the_papers(method: Method[Train]) -> None:
    plain = torch.rand(16, 3, 1, 1, generator=generator(0)).expand(-1, -1, 32, 32)
    for name, kept in (("quick", True), ("default", True), ("paper", False)):
        views = two_views(plain, generator(1), method.config.model_validate(method.presets[name]))
        assert all(torch.allclose(view, plain, atol=1e-4) == kept for view in views)


def test_the_card_is_what_was_asked_for() -> None:
    card = threat_card(SimclrThreatConfig(architecture="torchvision/resnet34", image_size=48, stem="small"), (32, 32))
    assert (card.architecture, card.image_size) == ("torchvision/resnet34", (48, 48))
    assert card.overrides["maxpool"] == "identity"
    assert threat_card(ThreatNetwork(architecture="torchvision/densenet121"), (32, 32)).overrides == {}
    with pytest.raises(UsageError, match="stem"):
        threat_card(ThreatNetwork(architecture="torchvision/densenet121", stem="fast"), (32, 32))
    assert fresh_encoder(threat_card(SimclrThreatConfig(), (32, 32)), seed=0).feature_dim == 512


def test_the_plan_counts_passes() -> None:
    config = SimclrThreatConfig(epochs=10, batch_size=250)
    assert simclr_plan(config, Workload(20_000, 32, 32)) == {"train encoder": Passes(training=10 * 20_000 * 2)}
