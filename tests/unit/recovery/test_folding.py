"""BatchNorm folded into convolutions: the same features, whatever the network, and nothing where it would differ."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from core.recovery.folding import folded
from core.recovery.forward import frozen
from core.types import Encoder


def encoder_of(backbone: nn.Module, side: int = 32) -> Encoder:
    """``backbone`` in eval mode with BatchNorm statistics and weights that are none of the initial ones."""
    random = torch.Generator().manual_seed(1)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=random)
            module.running_var.uniform_(0.5, 1.5, generator=random)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5, generator=random)
                nn.init.uniform_(module.bias, -0.5, 0.5, generator=random)
    made = Encoder(
        backbone, name="x", image_size=(side, side), feature_dim=8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    )
    return made.eval().requires_grad_(False)


def norms(encoder: Encoder) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())


def images(side: int = 32) -> Tensor:
    return torch.rand(5, 3, side, side, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision.models.resnet18(num_classes=8),
        lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=8),
        lambda: torchvision.models.mobilenet_v2(num_classes=8),
        lambda: timm.create_model("tf_efficientnet_lite0", num_classes=8),
        lambda: timm.create_model("regnetx_002", num_classes=8),
    ],
    ids=["resnet18", "shufflenet", "mobilenet", "efficientnet-lite", "regnet"],
)
def test_features_and_their_gradients_stay_and_no_batch_norm_is_left(make) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    before = encoder_of(make())
    after = folded(before)
    assert norms(before) > 10 and norms(after) == 0
    pixels = [images().requires_grad_() for _ in range(2)]
    features = [encoder(batch) for encoder, batch in zip((before, after), pixels, strict=True)]
    assert torch.allclose(features[0], features[1], rtol=1e-4, atol=1e-5 * float(features[0].detach().abs().max()))
    gradients = [torch.autograd.grad(f.square().sum(), p)[0] for f, p in zip(features, pixels, strict=True)]
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-2, atol=1e-4 * float(gradients[0].abs().max()))


class _BothUsed(nn.Module):
    """A convolution's output goes into BatchNorm and past it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        seen: Tensor = self.convolution(x)
        return (self.norm(seen) + seen).mean((2, 3))


class _CalledTwice(nn.Module):
    """One BatchNorm after two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.norm = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = self.norm(self.second(self.norm(self.first(x))))
        return normalised.mean((2, 3))


@pytest.mark.parametrize("backbone", [_BothUsed, _CalledTwice, lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 8))])
def test_what_cannot_be_folded_stays_as_it_is(backbone) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    encoder = encoder_of(backbone())
    assert folded(encoder) is encoder


def test_the_encoder_that_is_given_keeps_its_layers_and_its_mode() -> None:
    torch.manual_seed(0)
    encoder = encoder_of(torchvision.models.resnet18(num_classes=8)).train().requires_grad_(True)
    network = frozen(encoder)
    assert norms(network) == 0 and norms(encoder) == 20 and encoder.training
    assert all(weight.requires_grad for weight in encoder.parameters())
    assert not any(weight.requires_grad for weight in network.parameters())
