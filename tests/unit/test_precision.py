"""Where bf16 is used, and where it would cost time."""

import pytest
import torch
import torchvision
from torch import nn

from core import device
from core.device import has_grouped, mixed_precision

CPU = torch.device("cpu")


def test_grouped_convolutions_are_seen_wherever_they_are() -> None:
    assert has_grouped(torchvision.models.shufflenet_v2_x0_5())
    assert has_grouped(torchvision.models.mobilenet_v2(width_mult=0.25))
    assert not has_grouped(torchvision.models.resnet18())


@pytest.mark.parametrize(
    ("fast", "network", "expected"),
    [
        (True, None, True),
        (True, nn.Conv2d(4, 4, 3), True),
        (True, nn.Conv2d(4, 4, 3, groups=4), False),
        (False, nn.Conv2d(4, 4, 3), False),
    ],
)
def test_a_processor_uses_bf16_only_where_it_gains(
    monkeypatch: pytest.MonkeyPatch, fast: bool, network: nn.Module | None, expected: bool
) -> None:
    monkeypatch.setattr(device, "fast_bf16", lambda _: fast)
    with mixed_precision(CPU, network):
        assert torch.is_autocast_enabled("cpu") is expected
    assert not torch.is_autocast_enabled("cpu")
