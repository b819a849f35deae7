"""BatchNorm's statistics from clean images, and nothing else changed."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from core.image_parts import to_train
from core.run import QuietRun
from core.types import Encoder, ImageSet
from core.unlearning.batch_statistics import VIEWS, clean_statistics, why_statistics_stay
from core.unlearning.ssldefender import UnlearningConfig, unlearn
from core.unlearning.utility import UtilityEvaluator
from tests.planted import planted_images, planted_patch


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


def test_statistics_of_views_are_those_of_crops_in_other_colours() -> None:
    def statistics(seed: int) -> torch.Tensor:
        layer = nn.BatchNorm2d(3)
        images = torch.rand(3, 1, 1, 1, generator=torch.Generator().manual_seed(0)).expand(3, 3, 8, 8)
        clean_statistics(encoder(layer), images, 2, torch.Generator().manual_seed(seed))
        assert layer.num_batches_tracked == VIEWS
        return torch.cat([layer.running_mean, layer.running_var])  # type: ignore[list-item]

    assert torch.equal(statistics(1), statistics(1))
    assert not torch.allclose(statistics(1), statistics(2), atol=1e-3)


@pytest.mark.parametrize("source", ["images", "views"])
def test_what_the_statistics_are_taken_from_is_what_was_asked_for(source: str) -> None:
    planted, images = planted_patch(), planted_images(96)
    config = UnlearningConfig(steps=2, batch_size=32, statistics_from=source)  # type: ignore[arg-type]
    first, second = (
        unlearn(planted.encoder, images, [planted.trigger], config, QuietRun(), seed=3).student for _ in range(2)
    )
    other = unlearn(
        planted.encoder, images, [planted.trigger],
        config.model_copy(update={"statistics_from": "images" if source == "views" else "views"}), QuietRun(), seed=3,
    ).student  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.buffers(), other.buffers(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


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


def unlike_images(count: int) -> ImageSet:
    """The planted encoder's images, inside out: bright where those are dark."""
    images = planted_images(count)
    return replace(images, pixels=255 - images.pixels)


@pytest.mark.parametrize(("images", "unlike"), [(planted_images(96), False), (unlike_images(96), True)])
def test_images_of_another_kind_are_told_by_their_statistics(images: ImageSet, unlike: bool) -> None:
    subject = planted_patch().encoder
    train, held_back = to_train(images, subject.device, 0)
    before = weights_of(subject)
    said = why_statistics_stay(subject, train, UtilityEvaluator(subject, held_back, []), 32)
    assert (said is not None) == unlike and (said is None or "statistics were left as they are" in said)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(subject).items())


def test_a_network_without_such_layers_finds_no_images_unlike() -> None:
    made = encoder(nn.Conv2d(3, 3, 1))
    images = torch.rand(40, 3, 8, 8)
    assert why_statistics_stay(made, images, UtilityEvaluator(made, images, []), 8) is None


@pytest.mark.parametrize(("images", "unlike"), [(planted_images(96), False), (unlike_images(96), True)])
def test_statistics_are_learnt_from_images_of_the_encoders_own_kind_only(images: ImageSet, unlike: bool) -> None:
    planted = planted_patch()
    config = UnlearningConfig(steps=5, batch_size=32, jitter=0, learning_rate=0.01)
    result = unlearn(planted.encoder, images, [planted.trigger], config, QuietRun(), seed=0)
    before, after = weights_of(planted.encoder), weights_of(result.student)
    norms = {name for name, module in planted.encoder.named_modules() if isinstance(module, nn.BatchNorm2d)}
    statistics = [name for name in before if name.rpartition(".")[0] in norms and ".running" in name]
    assert statistics and all(torch.equal(before[name], after[name]) for name in statistics) == unlike
    assert any(not torch.equal(before[name], after[name]) for name in before if name not in statistics)
    assert any("statistics were left as they are" in note for note in result.notes) == unlike


def weights_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
