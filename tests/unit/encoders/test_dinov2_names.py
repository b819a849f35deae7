"""DINOv2 with registers under its authors' names is recognised without a card."""

from __future__ import annotations

import json

import pytest
import timm
import torch

from core.encoders.dinov2_names import as_timm
from core.encoders.infer import infer_card
from core.errors import UnsupportedInput

Shapes = dict[tuple[str, ...], tuple[int, ...]]


def hub(*, tokens: int = 1370, prefix: str = "", chunk: str = "") -> Shapes:
    """Names and shapes as the hub's own code writes those of the small network."""
    with torch.device("meta"):
        network = timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items() if name != "reg_token"}
    shapes |= {"register_tokens": (1, 4, 384), "pos_embed": (1, tokens, 384), "mask_token": (1, 384)}
    return {tuple((prefix + name.replace("blocks.", chunk or "blocks.")).split(".")): s for name, s in shapes.items()}


@pytest.mark.parametrize(("prefix", "chunk"), [("", ""), ("teacher.backbone.", ""), ("model.", "blocks.0.")])
def test_it_is_timms_network_of_the_size_that_the_positions_show(prefix: str, chunk: str) -> None:
    card = infer_card(hub(prefix=prefix, chunk=chunk)).card
    assert (card.architecture, card.image_size) == ("timm/vit_small_patch14_reg4_dinov2", (518, 518))
    assert card.mean == (0.485, 0.456, 0.406)


def test_another_size_is_offered_as_a_card() -> None:
    with pytest.raises(UnsupportedInput) as caught:
        infer_card(hub(tokens=257))
    sample = json.loads(caught.value.problem.action.rpartition("of this sample: ")[2])
    assert (sample["architecture"], sample["input_size"]) == ("timm/vit_small_patch14_reg4_dinov2", 224)


def test_other_files_are_left_alone() -> None:
    assert as_timm({"cls_token": (1, 1, 8), "pos_embed": (1, 17, 8), "reg_token": (1, 4, 8)}) is None
