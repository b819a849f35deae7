"""What a file's own names say about the training that wrote it, and so about the pixels it wants.

A wrapper, a decoder, a text tower beside the encoder: they are not audited, but they tell who wrote the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from core.encoders.pretrained import CLIP, HALF, IMAGENET, Three


@dataclass(frozen=True)
class Family:
    """A method of training, ``tag`` the begin of its tags in timm's registry, ``sign`` what in the file shows it."""

    name: str
    sign: str
    mean: Three
    std: Three
    tag: str | None = None


@dataclass(frozen=True)
class _Row:
    family: Family
    needs: tuple[re.Pattern[str], ...]


def _row(name: str, sign: str, pixels: tuple[Three, Three], needs: tuple[str, ...], tag: str | None = None) -> _Row:
    return _Row(Family(name, sign, *pixels, tag), tuple(re.compile(rf"(?:^|\.)(?:{need})(?:\.|$)") for need in needs))


_ROWS = (
    _row("SigLIP", "a logit_scale beside a logit_bias", HALF, ("logit_scale", "logit_bias")),
    _row("CLIP", "a logit_scale", CLIP, ("logit_scale",), "openai"),
    _row("MAE", "a decoder", IMAGENET, (r"decoder_(?:embed|pos_embed|blocks|pred)|mae_decoder",), "mae"),
    _row("DINOv2", "student, teacher and layer scales", IMAGENET, ("student", "teacher", r"ls1"), "lvd142m"),
    _row("DINO", "student and teacher", IMAGENET, ("student", "teacher"), "dino"),
    _row("MoCo v3", "base_encoder and momentum_encoder", IMAGENET, ("base_encoder", "momentum_encoder")),
    _row("MoCo", "encoder_q and encoder_k", IMAGENET, ("encoder_q", "encoder_k")),
    _row("SwAV", "prototypes", IMAGENET, ("prototypes",)),
    _row("VISSL", "classy_state_dict", IMAGENET, ("classy_state_dict",)),
)


def family_of(names: Iterable[str]) -> Family | None:
    """The family whose signs are all among the dotted ``names`` of a file; None where there is none."""
    listed = list(names)
    for row in _ROWS:
        if all(any(need.search(name) for name in listed) for need in row.needs):
            return row.family
    return None
