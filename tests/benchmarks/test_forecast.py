"""The forecast of a detection against what its searches take: encoders of 32 to 224 pixels, the searches cut short.

Both are measured in the same run; nothing is asserted. Seconds of the processor are printed beside those of the clock:
where other programs run, the former say how good the counting is and the latter how even the machine is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from core.catalog import KINDS, read_parameters
from core.device import resolve_device
from core.encoders.fresh import fresh_encoder
from core.encoders.stems import training_card
from core.forecast.forecast import forecast_of
from core.kinds.findings import Subject
from core.memory import memory_budget
from core.recovery.forward import frozen
from core.recovery.ssldefender_search import search_all
from core.run import QuietRun
from core.types import ImageSet

SHORT = {"steps": 8, "additive_steps": 4, "spectral_steps": 4, "window_steps": 3, "square_images": 2}
FEW = {**SHORT, "square_stride": 0.25}
"""Of the searches on larger images."""
CASES: tuple[tuple[str, int, str, Mapping[str, Any]], ...] = (
    ("torchvision/resnet18", 32, "fast", {"budget": "quick"}),
    ("torchvision/resnet34", 32, "fast", FEW),
    ("torchvision/shufflenet_v2_x1_0", 32, "standard", {"budget": "quick"}),
    ("torchvision/mobilenet_v2", 48, "standard", SHORT),
    ("torchvision/resnet18", 64, "fast", FEW),
    ("torchvision/shufflenet_v2_x1_0", 96, "standard", FEW),
    ("torchvision/mobilenet_v2", 128, "standard", {**FEW, "thresholds": (0.9995,)}),
    ("timm/vit_tiny_patch16_224", 224, "standard", {**FEW, "thresholds": (0.9995,), "square_stride": 0.5}),
    ("torchvision/shufflenet_v2_x1_0", 224, "standard", {**FEW, "thresholds": (0.9995,), "square_stride": 0.5}),
    ("torchvision/resnet18", 224, "standard", {**FEW, "thresholds": (0.9995,), "square_stride": 0.5}),
    ("torchvision/resnet50", 224, "standard", {**FEW, "thresholds": (0.9995,), "square_stride": 0.5}),
)
IMAGES = 40


@pytest.mark.parametrize(("architecture", "side", "stem", "values"), CASES)
def test_forecast(architecture: str, side: int, stem: str, values: Mapping[str, Any]) -> None:
    device = resolve_device("auto")
    encoder = fresh_encoder(training_card(architecture, side, stem=stem), seed=0).to(device).eval()
    subject = Subject(encoder, _images(side), 0)
    budget = {key: value for key, value in values.items() if key == "budget"}
    steps = {key: value for key, value in values.items() if key != "budget"}
    kind = KINDS["detect"]
    settings = read_parameters(kind, {**budget, "detection": steps})
    with memory_budget(None, device):
        measuring, of_processor = time.perf_counter(), time.process_time()
        forecast = forecast_of(kind.outline(subject, settings), subject)
        measuring, of_processor = time.perf_counter() - measuring, time.process_time() - of_processor
        began, began_of_processor = time.perf_counter(), time.process_time()
        config = settings.chosen["detection"].config
        search_all(frozen(encoder), subject.images, config, QuietRun(), seed=0)  # type: ignore[arg-type]
        taken = time.perf_counter() - began
        share = of_processor / measuring
        busy = (time.process_time() - began_of_processor) / share
    print(
        f"\n{architecture} at {side} on {device}: {forecast.seconds_low:.1f} s forecast, {taken:.1f} s taken, "
        f"ratio {forecast.seconds_low / taken:.2f}, of the processor's time {forecast.seconds_low / busy:.2f}; "
        f"measured in {measuring:.1f} s",
        end="",
    )


def _images(side: int) -> ImageSet:
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(IMAGES, 3, 8, 8, generator=random)
    pixels = (torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear") * 255).to(torch.uint8)
    return ImageSet(pixels, tuple(f"{i}.png" for i in range(IMAGES)), "0" * 64)
