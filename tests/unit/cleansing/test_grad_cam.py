"""Grad-CAM's layer, its map in closed form, and what the published code explains instead."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.vision_transformer import VisionTransformer

from core.cleansing.forward import Reader
from core.cleansing.grad_cam import GradCam, as_map, explained_layer
from core.errors import UnsupportedInput
from core.random import derive_seed
from core.types import Encoder


def encoder(backbone, side=32):
    return Encoder(
        backbone, name="tiny", image_size=(side, side), feature_dim=8, mean=(0.5,) * 3, std=(0.25,) * 3
    ).eval()


def transformer():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(0, "vit"))
        network = VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=8
        )
    network.heads = nn.Identity()
    return encoder(network)


def test_a_resnets_layer_is_the_last_with_places():
    network = resnet18()
    network.fc = nn.Identity()
    assert explained_layer(encoder(network, 32)) == ("backbone.layer2.1.relu", False)
    assert explained_layer(encoder(network, 64)) == ("backbone.layer3.1.relu", False)


def test_a_transformers_layer_is_before_the_last_attention():
    assert explained_layer(transformer()) == ("backbone.encoder.layers.encoder_layer_1.ln_1", True)


def test_a_network_without_places_is_refused():
    with pytest.raises(UnsupportedInput) as refused:
        explained_layer(encoder(nn.Sequential(nn.Flatten(), nn.Linear(3072, 8))))
    assert refused.value.problem.code == "no_feature_maps"


def test_class_tokens_are_no_places():
    tokens = torch.arange(17.0).view(1, 17, 1)
    assert torch.equal(as_map(tokens)[0, 0], torch.arange(1.0, 17).view(4, 4))


class Bars(nn.Module):
    """A map of one channel per colour, pooled: its Grad-CAM can be written down."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.maps.weight.copy_(torch.eye(3).view(3, 3, 1, 1))

    def forward(self, images):
        return self.maps(images).mean((2, 3))


def test_the_map_is_the_weighted_sum_of_channels():
    images = torch.full((1, 3, 32, 32), 0.5)
    images[:, 0, :, :16] = 1.0  # normalised: red 2 on the left half, all else 0
    images[:, 1, 8:] = 0.75
    tiny = encoder(Bars())
    reader = Reader(tiny, half=False, batch_size=4)
    centroids = torch.eye(3)
    attention = GradCam(reader, centroids, as_published=False)(images)
    feature = tiny(images)[0].detach()
    assert attention.targets.tolist() == [0]
    # d(z . c)/dh for z = h / |h| and c the first axis.
    gradient = (torch.eye(3)[0] - feature * feature[0] / feature.square().sum()) / feature.norm()
    expected = (((images - 0.5) / 0.25)[0] * gradient.view(3, 1, 1) / 1024).sum(0).clamp_min(0)
    torch.testing.assert_close(attention.maps[0], expected, rtol=1e-4, atol=1e-9)


def test_the_published_code_explains_something_else_on_a_transformer():
    network = transformer()
    reader = Reader(network, half=False, batch_size=4)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    centroids = torch.nn.functional.normalize(torch.randn(5, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    mended = GradCam(reader, centroids, as_published=False)(images)
    published = GradCam(reader, centroids, as_published=True)(images)
    assert mended.maps.shape == published.maps.shape == (3, 32, 32)
    assert torch.equal(mended.targets, published.targets)
    similarity = nn.functional.cosine_similarity(mended.maps.flatten(1), published.maps.flatten(1))
    assert float(similarity.min()) < 0.95
