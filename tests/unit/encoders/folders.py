"""Tiny models of the transformers library, written as folders by the library itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))

_VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
_MLP = {**_VIT, "intermediate_size": 64}
_DINO = {**_VIT, "mlp_ratio": 2}
_STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
_SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "image_size": 32, "patch_size": 4, "window_size": 4}
_TEXT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 99}

MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("ViTConfig", "ViTModel", _MLP),
    "vit_for_classes": ("ViTConfig", "ViTForImageClassification", _MLP),
    "deit": ("DeiTConfig", "DeiTModel", _MLP),
    "vit_mae": ("ViTMAEConfig", "ViTMAEModel", _MLP),
    "vit_mae_whole": (
        "ViTMAEConfig",
        "ViTMAEForPreTraining",
        {**_MLP, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2},
    ),
    "dinov2": ("Dinov2Config", "Dinov2Model", _DINO),
    "dinov2_swiglu": ("Dinov2Config", "Dinov2Model", {**_DINO, "use_swiglu_ffn": True}),
    "dinov2_with_registers": ("Dinov2WithRegistersConfig", "Dinov2WithRegistersModel", _DINO),
    "dinov3_vit": ("DINOv3ViTConfig", "DINOv3ViTModel", {**_MLP, "num_register_tokens": 2}),
    "dinov3_convnext": ("DINOv3ConvNextConfig", "DINOv3ConvNextModel", {**_STAGES, "image_size": 32}),
    "clip_vision_model": ("CLIPVisionConfig", "CLIPVisionModel", _MLP),
    "clip_projected": ("CLIPVisionConfig", "CLIPVisionModelWithProjection", {**_MLP, "projection_dim": 12}),
    "clip": ("CLIPConfig", "CLIPModel", {"vision_config": _MLP, "text_config": _TEXT, "projection_dim": 12}),
    "siglip_vision_model": ("SiglipVisionConfig", "SiglipVisionModel", _MLP),
    "siglip": ("SiglipConfig", "SiglipModel", {"vision_config": _MLP, "text_config": _TEXT}),
    "beit": ("BeitConfig", "BeitModel", _MLP),
    "data2vec-vision": ("Data2VecVisionConfig", "Data2VecVisionModel", _MLP),
    "swin": ("SwinConfig", "SwinModel", _SWIN),
    "swin_for_masks": ("SwinConfig", "SwinForMaskedImageModeling", {**_SWIN, "encoder_stride": 8}),
    "swinv2": ("Swinv2Config", "Swinv2Model", _SWIN),
    "convnext": ("ConvNextConfig", "ConvNextModel", {**_STAGES, "image_size": 32}),
    "convnextv2": ("ConvNextV2Config", "ConvNextV2Model", {**_STAGES, "image_size": 32}),
    "resnet": ("ResNetConfig", "ResNetModel", {**_STAGES, "embedding_size": 8}),
    "resnet_for_classes": ("ResNetConfig", "ResNetForImageClassification", {**_STAGES, "embedding_size": 8}),
    "regnet": ("RegNetConfig", "RegNetModel", {**_STAGES, "embedding_size": 8, "groups_width": 4}),
}


def make(name: str) -> Any:
    """The model ``name`` with random weights, in eval mode."""
    import transformers

    config, model, options = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        made = getattr(transformers, model)(getattr(transformers, config)(**options)).eval()
        with torch.no_grad():  # libraries begin with zeros, ones and small numbers, which hide mistakes
            for parameter in made.parameters():
                parameter.add_(torch.randn(parameter.shape) * 0.1)
    return made


def write(folder: Path, name: str, **options: Any) -> Any:
    """``make(name)`` written to ``folder`` by the library, with a preprocessor; returns it."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    made = make(name)
    made.save_pretrained(folder, **options)
    preprocessor = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3], "size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return made


@torch.no_grad()
def expected(model: Any, name: str) -> torch.Tensor:
    """What the library's own users take as the feature of ``IMAGES``."""
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(1, 3, 1, 1)
    pixels = (IMAGES - mean) / std
    if name in ("clip", "siglip"):
        found = model.get_image_features(pixels)
        return torch.as_tensor(getattr(found, "pooler_output", found))
    if name.startswith("vit_mae"):
        model.config.mask_ratio = 0.0
        encoder = getattr(model, "vit", model)
        return torch.as_tensor(encoder(pixels, noise=torch.arange(16.0).expand(2, -1)).last_hidden_state[:, 0])
    body = next((getattr(model, part) for part in ("vit", "resnet", "swin") if hasattr(model, part)), model)
    output = body(pixels)
    if name == "clip_projected":
        return torch.as_tensor(output.image_embeds)
    tokens = output.last_hidden_state
    pooled = {"vit_for_classes": tokens[:, 0], "data2vec-vision": tokens[:, 0], "swin_for_masks": tokens.mean(1)}.get(
        name, output.pooler_output
    )
    return torch.as_tensor(pooled).flatten(1)
