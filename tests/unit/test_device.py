"""Tensors arrive on the device as they left, whatever way they take; on a GPU too where there is one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from core import device
from core.device import to_device, to_like
from core.random import batch_indices, draw_batch

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SENT = {
    "indices": torch.arange(5),
    "booleans": torch.tensor([True, False]),
    "transposed": torch.arange(6.0).view(2, 3).T,
    "number": torch.tensor(2.5, dtype=torch.float64),
    "nothing": torch.empty(0, 3),
    "expanded": torch.tensor(1.5).expand(2, 3),
    "learnt": torch.ones(3, requires_grad=True),
}


@pytest.mark.parametrize("where", DEVICES)
@pytest.mark.parametrize("tensor", SENT.values(), ids=SENT.keys())
def test_what_is_sent_arrives(tensor: Tensor, where: str) -> None:
    arrived = to_device(tensor, where)
    assert arrived.device.type == where and arrived.dtype == tensor.dtype
    assert torch.equal(arrived.detach().cpu(), tensor.detach()) and arrived.requires_grad == tensor.requires_grad
    assert torch.equal(to_device(arrived, "cpu").detach(), tensor.detach())


@pytest.mark.parametrize("where", DEVICES)
def test_what_is_too_large_to_pin_arrives_as_well(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_PINNED_AT_MOST", 8)
    assert to_device(SENT["indices"], where).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("where", DEVICES)
def test_likeness_is_of_type_and_device(where: str) -> None:
    model = torch.zeros(1, dtype=torch.float16, device=where)
    like = to_like(SENT["number"], model)
    assert (like.dtype, like.device, float(like)) == (model.dtype, model.device, 2.5)


@pytest.mark.parametrize("where", DEVICES)
def test_a_batch_is_drawn_by_its_indices(where: str) -> None:
    images = torch.rand(9, 3, 2, 2, device=where)
    chosen = batch_indices(9, 4, 1, "stage", 2)
    assert torch.equal(draw_batch(images, 4, 1, "stage", 2).cpu(), images.cpu()[chosen])
    assert len(draw_batch(images, 99, 1, "stage", 2)) == 9
