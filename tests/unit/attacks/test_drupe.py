"""DRUPE: its terms by hand, and what it adds to BadEncoder: triggered features that do not all look the same."""

import math

import pytest
import torch
from torch.nn import functional

from core.attacks.drupe import DrupeConfig, backdoor, best_reference, mean_pairwise_cosine
from core.attacks.trigger_patterns import white_patch
from core.run import QuietRun
from tests.planted import planted_encoder_for_training, planted_images
from tests.unit.training.interrupted_run import InterruptedRun

TRIGGER = white_patch((32, 32), 8, 20, 20)


@pytest.fixture(scope="module")
def scene():
    images = planted_images(64)
    return planted_encoder_for_training(), images, images.batch(slice(4, 7))


def test_the_best_reference_counts_and_unevenness_is_seen():
    triggered = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    both, first = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    effectiveness, imbalance = best_reference(triggered, both)
    assert float(effectiveness) == pytest.approx(-1.0) and float(imbalance) == pytest.approx(0.0)
    effectiveness, _ = best_reference(triggered, first)
    assert float(effectiveness) == pytest.approx(-0.5)
    # all images sit on the first reference, none on the second: mean cosines 1 and 0
    _, imbalance = best_reference(torch.tensor([[1.0, 0.0], [4.0, 0.0]]), both)
    assert float(imbalance) == pytest.approx(0.5)


def test_the_mean_cosine_is_over_all_pairs():
    features = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    unit = functional.normalize(features, dim=1)
    pairs = [float(unit[i] @ unit[j]) for i in range(7) for j in range(7) if i != j]
    assert float(mean_pairwise_cosine(features)) == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)


def test_a_backdoor_is_planted_and_hides(scene):
    encoder, images, references = scene
    plain = DrupeConfig(steps=120, batch_size=32, learning_rate=0.02, first_stage=1.0)
    hidden = plain.model_copy(update={"first_stage": 0.25, "spread_weight": 0.5, "distance_weight": 0.05})
    unseen = planted_images(64, seed=5).batch(slice(None))

    def planted(config):
        result = backdoor(encoder, images, references, TRIGGER, config, QuietRun(), seed=0)
        with torch.no_grad():
            triggered = result.encoder(TRIGGER(unseen))
            effectiveness, _ = best_reference(triggered, result.encoder(references))
            kept = functional.cosine_similarity(result.encoder(unseen), encoder(unseen)).mean()
        return float(-effectiveness), float(kept), float(mean_pairwise_cosine(triggered))

    before = float(-best_reference(encoder(TRIGGER(unseen)).detach(), encoder(references).detach())[0])
    reached, kept, tightness = planted(plain)
    assert reached > 0.9 and reached > before + 0.1 and kept > 0.7
    assert planted(hidden)[2] < tightness


def test_weights_grow_while_the_goals_are_met_and_shrink_while_they_are_not():
    from core.attacks.drupe import _adapt

    config = DrupeConfig(check_every=1, growth=1.25)
    met = tuple(torch.tensor(value) for value in (-0.99, -0.95, -0.95))
    missed = tuple(torch.tensor(value) for value in (-0.5, -0.95, -0.95))
    carried = {}
    for step in range(2):
        _adapt(carried, met, config, step)
    assert carried["spread_weight"] == pytest.approx(0.1 * 1.25)
    for step in range(2, 4):
        _adapt(carried, missed, config, step)
    assert carried["spread_weight"] == pytest.approx(0.1 * 1.25 * 1.25**-1.25)
    assert carried["distance_weight"] / carried["spread_weight"] == pytest.approx(1e-3 / 0.1)


def test_a_resumed_attack_equals_an_unbroken_one(scene, tmp_path):
    config = DrupeConfig(steps=8, batch_size=16, learning_rate=0.02, first_stage=0.25, check_every=1)
    unbroken = backdoor(*scene, TRIGGER, config, QuietRun(), seed=1)
    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KeyboardInterrupt):
        backdoor(*scene, TRIGGER, config, InterruptedRun(path, after=5), seed=1)
    resumed = backdoor(*scene, TRIGGER, config, InterruptedRun(path, start=5), seed=1)
    pairs = zip(unbroken.encoder.state_dict().values(), resumed.encoder.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert math.isfinite(resumed.effectiveness_loss) and resumed.utility_loss == unbroken.utility_loss
