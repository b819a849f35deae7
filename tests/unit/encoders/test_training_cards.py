"""Networks to train: their stems, their first weights, and the file they become."""

import pytest
import torch

from core.encoders.fresh import fresh_encoder
from core.encoders.load import load_encoder
from core.encoders.save import save_encoder
from core.encoders.stems import training_card
from core.errors import UsageError

SMALLEST = "torchvision/shufflenet_v2_x0_5"


@pytest.mark.parametrize(
    ("architecture", "stem", "side"),
    [("torchvision/resnet18", "small", 32), ("torchvision/resnet18", "fast", 8), (SMALLEST, "small", 32)],
)
def test_a_small_stem_keeps_more_of_the_picture(architecture, stem, side):
    """``side``: of the map that reaches the first block, for a 32-pixel image."""
    encoder = fresh_encoder(training_card(architecture, 32, stem=stem), seed=0)
    first = encoder.backbone.layer1 if "resnet" in architecture else encoder.backbone.stage2
    seen = []
    first.register_forward_hook(lambda module, given, out: seen.append(given[0].shape[-1]))
    with torch.no_grad():
        encoder(torch.rand(1, 3, 32, 32))
    assert seen == [side]


def test_a_vision_transformer_gets_small_patches():
    encoder = fresh_encoder(training_card("timm/vit_tiny_patch16_224", 32, stem="small"), seed=0)
    assert encoder.backbone.pos_embed.shape[1] == 1 + 8 * 8
    with torch.no_grad():
        assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.feature_dim)


def test_first_weights_follow_from_the_seed_and_leave_the_global_generator_alone():
    card = training_card(SMALLEST, 32)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, same, other = (fresh_encoder(card, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    name = "backbone.conv5.0.weight"
    assert torch.equal(first[name], same[name])
    assert not torch.equal(first[name], other[name])


def test_what_is_saved_can_be_loaded_without_a_card(tmp_path):
    encoder = fresh_encoder(training_card(SMALLEST, 32), seed=0)
    save_encoder(tmp_path / "e.safetensors", encoder, training_card(SMALLEST, 32), half=False)
    loaded = load_encoder(tmp_path / "e.safetensors")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(loaded.encoder(images), encoder(images), atol=1e-5)
    assert loaded.card.feature_dim == encoder.feature_dim
    assert [path.name for path in tmp_path.iterdir()] == ["e.safetensors"]


@pytest.mark.parametrize(("architecture", "stem"), [(SMALLEST, "tiny"), ("timm/convnext_tiny", "small")])
def test_a_stem_that_does_not_exist_is_named(architecture, stem):
    with pytest.raises(UsageError, match=stem):
        training_card(architecture, 32, stem=stem)


def test_without_a_stem_of_its_own_an_architecture_stays_as_it_is():
    assert not training_card("timm/convnext_tiny", 32).overrides
    assert not training_card("torchvision/resnet18", 224).overrides
