"""Weights with the names that the transformers library writes: which of its networks they may be, and what is missing.

Names do not tell how such a network computes (heads, activation, pooling), so without a config.json they are refused;
but they do tell the ``model_type``, or the two or three that write the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from core.encoders.tower_rows import WHOLES
from core.errors import UnsupportedInput

_TOWER = re.compile(
    r"\.embeddings\.(cls_token|patch_embeddings?\.(projection\.)?weight|class_embedding)$|"
    r"\.embedder\.embedder\.convolution\.|\.encoder\.layers?\.0\.(attention|self_attn|layer_norm1)\.|"
    r"\.encoder\.stages\.0\.layers\.0\.|\.stages\.0\.downsample_layers\."
)

# The first row all of whose patterns are found says the model_type; several where names leave a choice.
_ROWS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("siglip",), (r"\.logit_bias$", r"\.vision_model\.")),
    (("clip",), (r"\.logit_scale$", r"\.vision_model\.")),
    (("clip_vision_model",), (r"\.embeddings\.class_embedding$",)),
    (("siglip_vision_model",), (r"\.embeddings\.patch_embedding\.", r"\.encoder\.layers\.0\.")),
    (("deit",), (r"\.embeddings\.distillation_token$",)),
    (("dinov3_vit",), (r"\.embeddings\.register_tokens$", r"\.layer\.0\.attention\.k_proj\.")),
    (("dinov2_with_registers",), (r"\.embeddings\.register_tokens$",)),
    (("dinov2",), (r"\.layer_scale1\.lambda1$",)),
    (("vit_mae",), (r"\.decoder\.decoder_embed\.",)),
    (("beit", "data2vec-vision"), (r"\.layer\.0\.(lambda_1|attention\.attention\.relative_position_bias\.)",)),
    (("beit", "data2vec-vision"), (r"\.encoder\.relative_position_bias\.",)),
    (("swinv2",), (r"\.continuous_position_bias_mlp\.",)),
    (("swin",), (r"\.encoder\.layers\.0\.blocks\.0\.",)),
    (("convnextv2",), (r"\.stages\.0\.layers\.0\.grn\.",)),
    (("dinov3_convnext",), (r"\.stages\.0\.downsample_layers\.",)),
    (("convnext",), (r"\.encoder\.stages\.0\.layers\.0\.dwconv\.",)),
    (("regnet",), (r"\.encoder\.stages\.0\.layers\.0\.layer\.\d\.attention\.",)),
    (("resnet", "regnet"), (r"\.embedder\.embedder\.convolution\.",)),
    (("vit", "vit_mae"), (r"\.embeddings\.cls_token$", r"\.encoder\.layer\.0\.")),
)


def looks_like_tower(names: Iterable[str]) -> bool:
    """Whether weights have the names that the library writes, whose network only its config.json tells."""
    return any(_TOWER.search(f".{name}") for name in names)


def kinds_of(names: Iterable[str]) -> tuple[str, ...]:
    """Every ``model_type`` that writes such names, the likeliest first; none for names of other code."""
    dotted = [f".{name}" for name in names]
    for kinds, needed in _ROWS:
        if all(any(re.search(pattern, name) for name in dotted) for pattern in needed):
            return kinds
    return ()


def needs_config(names: Iterable[str]) -> UnsupportedInput:
    """The refusal of weights with these ``names`` without their description."""
    kinds = kinds_of(names)
    which = f", those of model_type {' or '.join(kinds)}" if kinds else ""
    return UnsupportedInput(
        "missing_config",
        field="encoder",
        found=f"weights with the names of the transformers library{which}, and no config.json",
        expected="the folder that save_pretrained writes: config.json, preprocessor_config.json and the weights",
        action=what_to_give(kinds),
    )


def what_to_give(kinds: Iterable[str]) -> str:
    """How the network of such weights is said: every way that works."""
    kind = WHOLES.get(first := next(iter(kinds), "<model_type>"), first)
    return (
        "Give the folder, or lay config.json beside the file; over HTTP, give a zip of the folder. Or give a card with "
        f"architecture transformers/{kind}, as config the object in the model's config.json, and input_size, mean and "
        "std."
    )
