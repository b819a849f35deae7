"""Which classes of the transformers library are audited as encoders: one row per ``model_type``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.encoders.normalisations import CLIP, HALF, IMAGENET, Three


@dataclass(frozen=True)
class Row:
    """Names of the library's classes, and how the family makes one vector of its tokens.

    ``projected`` is the class with a projection behind the pooler. ``prefix_tokens`` come before the patches, registers
    aside; ``pooler`` is a weight that only a file with a learnt pooler has, None where pooling has no weights.
    ``masks``: the network hides patches unless it is told not to. ``published`` are mean and std of its weights.
    """

    config: str
    model: str
    published: tuple[Three, Three]
    prefix_tokens: int = 0
    pooler: str | None = None
    without_pooler: str = "cls"
    projected: str | None = None
    masks: bool = False
    fixed_by_pooling: tuple[str, ...] = ()


_DENSE = "pooler.dense.weight"

ROWS: Mapping[str, Row] = {
    "vit": Row("ViTConfig", "ViTModel", HALF, 1, _DENSE),
    "deit": Row("DeiTConfig", "DeiTModel", IMAGENET, 2, _DENSE),
    "vit_mae": Row("ViTMAEConfig", "ViTMAEModel", IMAGENET, 1, "no learnt pooler", masks=True),
    "dinov2": Row("Dinov2Config", "Dinov2Model", IMAGENET, 1),
    "dinov2_with_registers": Row("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", IMAGENET, 1),
    "dinov3_vit": Row("DINOv3ViTConfig", "DINOv3ViTModel", IMAGENET, 1),
    "dinov3_convnext": Row("DINOv3ConvNextConfig", "DINOv3ConvNextModel", IMAGENET, 1),
    "clip_vision_model": Row("CLIPVisionConfig", "CLIPVisionModel", CLIP, 1, projected="CLIPVisionModelWithProjection"),
    "siglip_vision_model": Row(
        "SiglipVisionConfig",
        "SiglipVisionModel",
        HALF,
        0,
        "head.probe",
        without_pooler="mean",
        fixed_by_pooling=("vision_use_head",),
    ),
    "beit": Row("BeitConfig", "BeitModel", HALF, 1, "pooler.layernorm.weight"),
    "data2vec-vision": Row("Data2VecVisionConfig", "Data2VecVisionModel", HALF, 1, "pooler.layernorm.weight"),
    "swin": Row("SwinConfig", "SwinModel", IMAGENET),
    "swinv2": Row("Swinv2Config", "Swinv2Model", IMAGENET),
    "convnext": Row("ConvNextConfig", "ConvNextModel", IMAGENET),
    "convnextv2": Row("ConvNextV2Config", "ConvNextV2Model", IMAGENET),
    "resnet": Row("ResNetConfig", "ResNetModel", IMAGENET),
    "regnet": Row("RegNetConfig", "RegNetModel", IMAGENET),
}

WHOLES: Mapping[str, str] = {"clip": "clip_vision_model", "siglip": "siglip_vision_model"}
"""Models of images and text, and the row of their vision tower."""


def is_tower(architecture: str) -> bool:
    """Whether ``architecture`` is ``transformers/<model_type>`` of a row."""
    family, _, name = architecture.partition("/")
    return family == "transformers" and name in ROWS
