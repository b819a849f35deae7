"""What a detection costs against the side of the image, for a ResNet and a ViT: passes, and seconds at measured speeds.

Beside each number stands what it was without folded BatchNorm and with a purified copy that is searched for every kind
of trigger after a full unlearning. Both come from the same run; nothing is asserted. Passes hardly grow with the side:
places are counted relative to the image. A pass does, with the pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch

from core.catalog import KINDS, read_parameters
from core.device import resolve_device
from core.encoders.fresh import fresh_encoder
from core.encoders.stems import training_card
from core.forecast import probe
from core.forecast.probe import Speeds, measure_speeds
from core.memory import memory_budget
from core.passes import Passes, Workload, total
from core.types import Encoder, ImageSet
from core.unlearning.ssldefender import UnlearningConfig
from core.unlearning.ssldefender import stage_plan as unlearning_plan

IMAGES = 200
SIDES = (32, 64, 96, 128, 160, 224)
SECONDS = 3.0
"""How long the speeds of one encoder are measured."""


@pytest.mark.parametrize("architecture", ["torchvision/resnet18", "timm/vit_tiny_patch16_224"])
def test_cost_by_side(architecture: str) -> None:
    device = resolve_device("auto")
    print(f"\n{architecture} on {device}, {IMAGES} images; seconds, in brackets without folding and with a whole copy")
    print("side  passes quick  standard | images/s forward    with gradient | quick          with a copy     standard")
    for side in SIDES:
        encoder = fresh_encoder(training_card(architecture, side, stem="standard"), seed=0).to(device).eval()
        with memory_budget(None, device):
            now = measure_speeds(encoder, _images(side), Passes(1, 1, 1), seconds=SECONDS)
            with patch.object(probe, "frozen", _unfolded):
                before = measure_speeds(encoder, _images(side), Passes(1, 1, 1), seconds=SECONDS)
        load = Workload(IMAGES, side, side)
        quick, standard = (_search(budget, load) for budget in ("quick", "standard"))
        short, whole = (
            total(unlearning_plan(UnlearningConfig.model_validate(values), load).values())
            for values in (UnlearningConfig.presets["quick"], {})
        )

        def both(passes: Passes, former: Passes, now: Speeds = now, before: Speeds = before) -> str:
            return f"{now.seconds(passes):,.0f} ({before.seconds(former):,.0f})"

        print(
            f"{side:4}  {quick.images:12,.0f} {standard.images:9,.0f} | "
            f"{_rate(now, before, lambda s: s.forward):18} {_rate(now, before, lambda s: s.backward):15} | "
            f"{both(quick, quick):14} {both(quick + short + quick, quick + whole + quick):15} "
            f"{both(standard, standard)}"
        )


def _search(budget: str, load: Workload) -> Passes:
    detection = read_parameters(KINDS["detect"], {"budget": budget}).chosen["detection"]
    return total(detection.passes(load).values())


def _rate(now: Speeds, before: Speeds, seconds: Callable[[Speeds], float]) -> str:
    return f"{1 / seconds(now):,.0f} ({1 / seconds(before):,.0f})"


def _unfolded(encoder: Encoder) -> Encoder:
    return copy.deepcopy(encoder).eval().requires_grad_(False).to(memory_format=torch.channels_last)


def _images(side: int) -> ImageSet:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (IMAGES, 3, side, side), dtype=torch.uint8, generator=random)
    return ImageSet(pixels, tuple(f"{i}.png" for i in range(IMAGES)), "0" * 64)
