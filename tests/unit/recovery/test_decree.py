"""DECREE on the planted patch: the mask shrinks further on the backdoored encoder than on its twin."""

import pytest
import torch

from core.recovery.decree import DecreeConfig, _Mask, detect
from core.run import QuietRun
from tests.planted import planted_images, planted_patch

CONFIG = DecreeConfig(max_epochs=60, batch_size=64, success=0.97)


def test_the_backdoored_encoder_needs_the_smaller_mask() -> None:
    planted, images = planted_patch(), planted_images(128)
    backdoored = detect(planted.encoder, images, CONFIG, QuietRun(), seed=0)
    clean = detect(planted.twin, images, CONFIG, QuietRun(), seed=0)
    assert backdoored.score is not None
    assert clean.score is None or backdoored.score > clean.score


def test_the_norm_that_is_reported_is_the_saved_masks() -> None:
    generous = CONFIG.model_copy(update={"threshold": 0.9, "doubtful": 0.95})
    detection = detect(planted_patch().encoder, planted_images(64), generous, QuietRun(), seed=0)
    assert detection.score is not None
    trigger = detection.triggers[0]
    assert trigger.size == trigger.trigger.area() == 1 - detection.score
    assert trigger.similarity > 0.9


def test_the_search_goes_on_until_a_larger_lambda_has_failed() -> None:
    mask = _Mask(planted_patch().encoder, DecreeConfig(), 0)
    m, p = mask.current()

    def step(similarity: float) -> bool:
        reached = torch.tensor(similarity)
        mask.reached.zero_()
        mask.remember(reached, m.detach(), p.detach(), DecreeConfig())
        mask.adapt(reached, DecreeConfig())
        return mask.finished(1, DecreeConfig())

    assert not any(step(0.999) for _ in range(20))  # no smaller mask for nineteen steps, but lambda is still rising
    assert float(mask.weight) == pytest.approx(1e-3 * 5**3)
    assert not any(step(0.5) for _ in range(6))  # it is lowered once, and the mask fails
    assert float(mask.weight) == pytest.approx(1e-3 * 5**2)
    assert step(0.999)


def test_a_mask_that_creeps_does_not_put_the_end_off_and_is_still_kept() -> None:
    mask = _Mask(planted_patch().encoder, DecreeConfig(), 0)
    pattern = torch.zeros(3, 32, 32)
    for norm in (0.5, 0.46, 0.42):
        mask.remember(torch.tensor(0.999), torch.full((1, 32, 32), norm), pattern, DecreeConfig())
    assert float(mask.stale) == 2
    assert float(mask.best_norm) == pytest.approx(0.42)
    mask.remember(torch.tensor(0.999), torch.full((1, 32, 32), 0.39), pattern, DecreeConfig())
    assert float(mask.stale) == 0  # by more than a fifth of 0.5 in all


@pytest.mark.parametrize(("norm", "ends"), [(0.037, True), (0.038, False)])
def test_a_mask_far_below_the_threshold_ends_the_search_without_another_push(norm: float, ends: bool) -> None:
    config = DecreeConfig()
    assert config.settled * config.threshold == pytest.approx(0.0375)
    mask = _Mask(planted_patch().encoder, config, 0)
    pattern = torch.zeros(3, 32, 32)
    for _ in range(config.patience + 1):
        mask.remember(torch.tensor(0.999), torch.full((1, 32, 32), norm), pattern, config)
    assert not mask.finished(1, config)  # it may still shrink
    mask.remember(torch.tensor(0.5), torch.full((1, 32, 32), norm), pattern, config)
    assert mask.finished(1, config) is ends


def test_the_published_form_goes_on_however_small_the_mask() -> None:
    published = DecreeConfig(**DecreeConfig.presets["paper"])
    mask = _Mask(planted_patch().encoder, published, 0)
    for _ in range(published.patience + 2):
        mask.remember(torch.tensor(0.999), torch.full((1, 32, 32), 0.001), torch.zeros(3, 32, 32), published)
    assert not mask.finished(1, published)
