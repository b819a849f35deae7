"""The monitor reads an encoder and leaves no trace in it."""

import pytest
import torch

from core.evaluation.monitor import NeighbourMonitor
from core.images.labelled import LabelledImages
from tests import planted

CLASSES = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def sets():
    return tuple(
        LabelledImages(planted.planted_images(n, seed=seed), planted.planted_labels(n), CLASSES)
        for n, seed in ((120, 0), (80, 1))
    )


def test_it_tells_an_encoder_from_a_blind_one(sets):
    monitor, encoder = NeighbourMonitor(*sets), planted.planted_encoder_for_training()
    seeing = monitor(encoder)
    assert seeing > 50 and seeing == monitor(encoder)
    with torch.no_grad():
        encoder.backbone.trunk[0].weight.zero_()
    assert monitor(encoder) < 30


def test_the_encoder_is_left_as_it_was(sets):
    encoder = planted.planted_encoder_for_training().train()
    frozen_layer = encoder.backbone.trunk[1].eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    NeighbourMonitor(*sets)(encoder)
    assert encoder.training and encoder.backbone.training and not frozen_layer.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert torch.is_grad_enabled()


def test_it_reads_in_eval_mode(sets):
    monitor, encoder = NeighbourMonitor(*sets), planted.planted_encoder_for_training()
    assert monitor(encoder.train()) == monitor(encoder.eval())


def test_the_limit_is_kept_class_by_class(sets):
    seen = []
    encoder = planted.planted_encoder_for_training()
    encoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    NeighbourMonitor(*sets, limit=40)(encoder)
    assert seen == [40, 40]
    with pytest.raises(ValueError, match="none"):
        NeighbourMonitor(*sets, limit=0)
