"""The whole detection on images of 64 pixels: a planted square is found and its twin is never called backdoored."""

from __future__ import annotations

import copy

import pytest
from torch import nn
from torch.nn import functional

from core.catalog import default_unlearning
from core.kinds.detect import detect
from core.kinds.findings import Subject
from core.methods import Choice
from core.recovery.detection import Detection
from core.registry import DETECTION
from core.run import QuietRun
from core.types import Encoder, ImageSet, Verdict
from core.unlearning.ssldefender import UnlearningConfig
from tests.planted import planted_images, planted_patch, planted_square

SHORT = {
    "steps": 30,
    "additive_steps": 10,
    "spectral_steps": 5,
    "window_steps": 12,
    "batch_size": 16,
    "target_steps": 6,
}


def at_64(encoder: Encoder) -> Encoder:
    """The same encoder behind a halving of the image: every trigger then has twice the side."""
    backbone = nn.Sequential(nn.AvgPool2d(2), copy.deepcopy(encoder.backbone))
    mean = float(encoder.mean[0, 0, 0, 0]), float(encoder.mean[0, 1, 0, 0]), float(encoder.mean[0, 2, 0, 0])
    std = float(encoder.std[0, 0, 0, 0]), float(encoder.std[0, 1, 0, 0]), float(encoder.std[0, 2, 0, 0])
    return Encoder(
        backbone, name="planted", image_size=(64, 64), feature_dim=encoder.feature_dim, mean=mean, std=std
    ).eval()


def images_at_64() -> ImageSet:
    images = planted_images(96)
    pixels = functional.interpolate(images.pixels.float(), scale_factor=2).round().byte()
    return ImageSet(pixels, images.names, images.digest)


def audited(encoder: Encoder) -> Detection:
    method, unlearning = DETECTION[0], default_unlearning()
    short = Choice(unlearning.method, "default", UnlearningConfig(steps=20))
    choice = Choice(method, "default", method.config.model_validate(SHORT))
    return detect(Subject(encoder, images_at_64(), 0), choice, short, QuietRun()).detection


@pytest.mark.parametrize("planted", [planted_patch, planted_square])
def test_a_planted_patch_is_found(planted) -> None:  # type: ignore[no-untyped-def]
    found = audited(at_64(planted().encoder))
    assert {"opaque-patch@0.19", "plain-square@0.375"} <= {row.key for row in found.hypotheses}
    assert found.verdict is Verdict.BACKDOORED and found.triggers


def test_its_twin_is_neither_backdoored_nor_called_clean_by_a_short_search() -> None:
    found = audited(at_64(planted_patch().twin))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert any("cut short" in reason for reason in found.reasons)
