"""Layers of a head that a network keeps and a file lacks: they are left out of the network.

torchvision's ConvNeXt and MaxViT normalise inside their classifier, so that layer is a part of the encoder. Who strips
the classifier off a file, as is usual, strips it too; the feature is then the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping

from core.encoders.architectures import build_backbone, shapes_of
from core.encoders.card import EncoderCard
from core.encoders.placement import Shape, is_head


def without_absent(card: EncoderCard, own: Mapping[str, Shape]) -> tuple[EncoderCard, tuple[str, ...]]:
    """``card`` with an override for each layer of its head whose weights are not among ``own``, and a sentence for it;
    the card itself where nothing is absent."""
    expected = [name for name in shapes_of(build_backbone(card, device="meta")) if is_head(name)]
    absent = {name.rpartition(".")[0] for name in expected if name not in own}
    absent -= {name.rpartition(".")[0] for name in expected if name in own} | set(card.overrides)
    if not absent:
        return card, ()
    listed = ", ".join(sorted(absent))
    filled = card.model_copy(update={"overrides": {**card.overrides, **dict.fromkeys(sorted(absent), "identity")}})
    return filled, (f"The file lacks {listed} of {card.architecture}: the feature is the one without it.",)
