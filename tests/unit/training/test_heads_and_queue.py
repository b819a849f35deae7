"""Heads and queue against lightly's: same weights from the same seed, same keys after the same pushes."""

import pytest
import torch
from lightly.models.modules.heads import MoCoProjectionHead
from lightly.models.modules.heads import ProjectionHead as LightlyHead
from lightly.models.modules.memory_bank import MemoryBankModule
from torch import nn

from core.training.heads import ProjectionHead
from core.training.key_queue import KeyQueue


def seeded(build):
    torch.manual_seed(3)
    return build()


@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_heads_are_lightlys_weight_for_weight(batch_norm):
    def lightly():
        if not batch_norm:
            return MoCoProjectionHead(6, 6, 4)
        return LightlyHead([(6, 6, nn.BatchNorm1d(6), nn.ReLU()), (6, 4, None, None)])

    own, theirs = seeded(lambda: ProjectionHead(6, 4, batch_norm=batch_norm)), seeded(lightly)
    assert own.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(own.state_dict()[name], value) for name, value in theirs.state_dict().items())
    features = torch.randn(5, 6)
    torch.testing.assert_close(own(features), theirs(features))


def test_the_queue_is_lightlys_memory_bank():
    own, theirs = seeded(lambda: KeyQueue(10, 3)), seeded(lambda: MemoryBankModule((10, 3)))
    for number in range(9):
        keys = torch.randn(4 if number % 2 else 3, 3)
        negatives = own.negatives()
        own.push(keys)
        torch.testing.assert_close(negatives, theirs(keys, update=True)[1], rtol=0, atol=0)
        assert torch.equal(own.bank, theirs.bank) and torch.equal(own.bank_ptr, theirs.bank_ptr)


def test_what_was_returned_stays_as_it_was():
    queue = KeyQueue(4, 2)
    negatives = queue.negatives()
    before = negatives.clone()
    queue.push(torch.ones(2, 2))
    assert torch.equal(negatives, before)
