"""BatchNorm's statistics from clean images, and nothing else changed."""

import torch
from torch import nn

from core.types import Encoder
from core.unlearning.batch_statistics import clean_statistics


def encoder(*layers: nn.Module) -> Encoder:
    return Encoder(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        name="tiny", image_size=(8, 8), feature_dim=3, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
    )  # fmt: skip


def test_the_statistics_are_those_of_the_images_and_their_mirror_images() -> None:
    layer = nn.BatchNorm2d(3)
    layer.running_mean = torch.full((3,), 9.0)
    made = encoder(layer).train()
    images = torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    weights = [weight.clone() for weight in made.parameters()]
    clean_statistics(made, images, 20)
    torch.testing.assert_close(layer.running_mean, images.mean((0, 2, 3)), rtol=0, atol=1e-5)
    parts = [torch.cat([part, part.flip(3)]).var((0, 2, 3)) for part in images.chunk(3)]
    torch.testing.assert_close(layer.running_var, torch.stack(parts).mean(0), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), weights, strict=True))
    assert layer.momentum == 0.1 and layer.training and made.training


def test_modes_are_put_back_layer_by_layer() -> None:
    frozen = nn.BatchNorm2d(3).eval()
    made = encoder(nn.BatchNorm2d(3), frozen)
    made.backbone.train()
    frozen.eval()
    clean_statistics(made, torch.rand(8, 3, 8, 8), 64)
    assert not frozen.training and made.backbone[0].training  # type: ignore[index]


def test_a_network_without_such_layers_stays_as_it_is() -> None:
    made = encoder(nn.Conv2d(3, 3, 1))
    before = made(torch.ones(2, 3, 8, 8))
    clean_statistics(made, torch.rand(4, 3, 8, 8), 2)
    assert torch.equal(made(torch.ones(2, 3, 8, 8)), before)
