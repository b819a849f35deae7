"""An encoder of our own making as a file: a plain state dict in safetensors that carries its card."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from core.encoders.card import EncoderCard
from core.types import Encoder


def save_encoder(path: Path, encoder: Encoder, card: EncoderCard, *, half: bool = True) -> None:
    """Write ``encoder``'s backbone to ``path`` at once, in half precision unless ``half`` is False.

    A purified copy of somebody's file is written by ``core.encoders.write`` instead, in the form in which it came.
    """
    tensors = {
        name: _portable(tensor, half=half).contiguous() for name, tensor in encoder.backbone.state_dict().items()
    }
    described = card.model_copy(update={"feature_dim": encoder.feature_dim})
    part = path.with_name(path.name + ".part")
    save_file(tensors, part, metadata={"encoder_card": json.dumps(described.to_json())})
    part.replace(path)


def _portable(tensor: torch.Tensor, *, half: bool) -> torch.Tensor:
    tensor = tensor.detach().cpu()
    return tensor.half() if half and tensor.is_floating_point() else tensor
