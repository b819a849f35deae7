"""Cards for training on small images: stems that do not throw the picture away.

Networks made for 224 pixels halve the image four or five times; on 32 pixels that leaves one position. The usual stems
for small images (SimCLR's appendix, BadEncoder) use a 3x3 first convolution and no max-pooling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from core.encoders.card import FORMAT, EncoderCard, parse_card
from core.errors import UsageError

SMALL_IMAGE = 96
"""Images of at most so many pixels get a small stem unless told otherwise."""

_CONV3 = {"kernel_size": 3, "stride": 1, "padding": 1}
_HALVING = {"kernel_size": 3, "stride": 2, "padding": 1}
_STEMS: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        # stem -> architecture pattern -> overrides
        "small": {
            r"torchvision/(resnet|wide_resnet|resnext).*": {"conv1": _CONV3, "maxpool": "identity"},
            r"torchvision/mobilenet_v2": {"features.0.0": {"stride": 1}, "features.2.conv.1.0": {"stride": 1}},
            r"torchvision/shufflenet_v2.*": {"conv1.0": {"stride": 1}, "maxpool": "identity"},
            r"timm/vit_.*": {"patch_embed.proj": {"kernel_size": 4, "stride": 4}},
        },
        # A quarter to a sixteenth of the cost: for trainings on a processor.
        "fast": {
            r"torchvision/(resnet|wide_resnet|resnext).*": {"conv1": _HALVING},
            r"torchvision/mobilenet_v2": {"features.0.0": {"stride": 1}},
            r"torchvision/shufflenet_v2.*": {"conv1.0": {"stride": 1}},
            r"timm/vit_.*": {"patch_embed.proj": {"kernel_size": 8, "stride": 8}},
        },
        "standard": {r".*": {}},
    }
)
STEMS = ("auto", *_STEMS)


def training_card(
    architecture: str,
    input_size: int,
    *,
    stem: str = "auto",
    mean: tuple[float, float, float] = (0.4914, 0.4822, 0.4465),
    std: tuple[float, float, float] = (0.2023, 0.1994, 0.201),
) -> EncoderCard:
    """The card of a network to be trained on images of ``input_size`` pixels; ``mean`` and ``std`` default to
    CIFAR-10's. ``stem`` ``auto`` is ``small`` up to :data:`SMALL_IMAGE` pixels where there is one for the architecture.

    Raises:
        UsageError: no such stem, or none for this architecture; or values that make no card.
    """
    if stem not in STEMS:
        raise _bad_stem(stem, f"one of {', '.join(STEMS)}")
    chosen = ("small" if input_size <= SMALL_IMAGE else "standard") if stem == "auto" else stem
    overrides = next((o for pattern, o in _STEMS[chosen].items() if re.fullmatch(pattern, architecture)), None)
    if overrides is None and stem != "auto":
        raise _bad_stem(f"{stem} for {architecture}", "an architecture with such a stem (ResNet, MobileNetV2, ...)")
    return parse_card(
        {
            "format": FORMAT,
            "architecture": architecture,
            "overrides": overrides or {},
            "input_size": input_size,
            "mean": list(mean),
            "std": list(std),
        }
    )


def _bad_stem(found: str, expected: str) -> UsageError:
    return UsageError(
        "unknown_stem", field="stem", found=found, expected=expected, action="Choose another, or give a card."
    )
