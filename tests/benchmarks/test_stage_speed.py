"""How much of the time goes into the encoder: each stage of an audit against the encoder's bare passes.

Every image that passes the encoder is counted, with and without gradients. What those passes cost by themselves, in the
same run, is the least that the stage can take; the printed share is that least over what it took. Both are warm: the
first call of a kernel on a new shape prepares it, and a stage has hundreds of steps. Nothing is asserted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

from core.catalog import KINDS, read_parameters
from core.device import resolve_device
from core.encoders.fresh import fresh_encoder
from core.encoders.stems import training_card
from core.methods import Choice
from core.recovery.detection import RecoveredTrigger
from core.registry import DETECTION, PURIFICATION
from core.triggers import MaskedTrigger
from core.types import Encoder
from tests.benchmarks.passes import counted, report
from tests.planted import SIZE, planted_images

IMAGES = 512
STEPS, WARMING = 12, 2
"""Of a purification, and of what warms up. A detection has its default length: how many images a step looks at follows
from it."""


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    made = fresh_encoder(training_card("torchvision/resnet18", SIZE, stem="fast"), seed=0)
    return made.requires_grad_(False).to(resolve_device("auto"), memory_format=torch.channels_last)


def chosen(kind: str, values: Mapping[str, object]) -> Mapping[str, Choice]:
    return read_parameters(KINDS[kind], values).chosen


@pytest.mark.parametrize("method", DETECTION, ids=lambda method: method.key)
def test_detection(method, encoder: Encoder) -> None:
    names = [name for name in method.config.model_fields if name.endswith("steps")]
    for steps in (dict.fromkeys(names, WARMING), {}):
        config = chosen("detect", {"detection": {"method": method.key, **steps}})["detection"].config
        subject, clock = counted(encoder)
        found = method.apply(subject, planted_images(IMAGES), config, clock, seed=0)
        if method.expand_triggers:
            trigger = RecoveredTrigger("patch", _patch(), 0.9, 0.03, "fraction of pixels")
            found = replace(found, triggers=(trigger,), pending_targets=1)
            method.expand_triggers(subject, planted_images(IMAGES), config, found, clock, seed=0)
    report(f"detection, {method.key},", encoder.device, clock)


@pytest.mark.parametrize("method", PURIFICATION, ids=lambda method: method.key)
def test_purification(method, encoder: Encoder) -> None:
    fields = method.config.model_fields.items()
    for length in (WARMING, STEPS):
        steps = {name: length for name, field in fields if name.endswith("steps") and field.default}
        config = chosen("purify", {"purification": {"method": method.key, **steps}})["purification"].config
        subject, clock = counted(encoder, trained=True)
        method.apply(subject, planted_images(IMAGES), [_patch()], config, clock, seed=0)
    report(f"purification, {method.key},", encoder.device, clock)


def _patch() -> MaskedTrigger:
    mask = torch.zeros(1, SIZE, SIZE)
    mask[:, -6:, -6:] = 1
    return MaskedTrigger(mask, torch.ones(3, SIZE, SIZE))
