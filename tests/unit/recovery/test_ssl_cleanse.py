"""SSL-Cleanse on the planted patch: the target's cluster needs the smallest mask; no verdict where none is possible."""

from __future__ import annotations

import torch

from core.ops.cosine import similarity_to
from core.recovery.cluster_inversion import Inversions, InversionSettings
from core.recovery.ssl_cleanse import SslCleanseConfig, detect
from core.run import QuietRun
from core.types import ImageSet, Verdict
from tests.planted import planted_images, planted_patch

CONFIG = SslCleanseConfig(clusters=6, steps=120, batch_size=16, success=0.9, doubtful=0.1, threshold=0.2)


def test_the_smallest_mask_leads_to_the_target() -> None:
    planted, images = planted_patch(), planted_images(192)
    detection = detect(planted.encoder, images, CONFIG, QuietRun(), seed=0)
    assert detection.verdict is Verdict.BACKDOORED
    best = detection.triggers[0]
    assert best.size == best.trigger.area()
    test = planted_images(32, seed=9).batch(slice(None))
    with torch.no_grad():
        reached = similarity_to(planted.encoder(best.trigger(test)), planted.direction)
        clean = similarity_to(planted.encoder(test), planted.direction)
    assert float(reached) > 0.9 > float(clean)


def test_without_successful_masks_there_is_no_verdict() -> None:
    impossible = CONFIG.model_copy(update={"steps": 4, "success": 1.0})
    detection = detect(planted_patch().twin, planted_images(96), impossible, QuietRun(), seed=0)
    assert detection.verdict is Verdict.INCONCLUSIVE
    assert detection.score is None
    assert "were reached" in detection.reasons[0]


def test_images_of_one_colour_give_no_verdict() -> None:
    plain = torch.full((64, 3, 32, 32), 90, dtype=torch.uint8)
    images = ImageSet(plain, tuple(map(str, range(64))), "plain")
    assert detect(planted_patch().encoder, images, CONFIG, QuietRun(), seed=0).verdict is Verdict.INCONCLUSIVE


def test_lambda_starts_at_a_success_rises_falls_and_ends_the_search() -> None:
    settings = InversionSettings(100, 8, 1, 0.1, 0.9, 0.1, 2.0, 2, 3)
    inversions = Inversions(2, planted_patch().encoder, settings, 0)
    both = torch.tensor([0, 1])
    mask, pattern = torch.full((2, 1, 32, 32), 0.5), torch.zeros(2, 3, 32, 32)

    def look(*success: float) -> list[float]:
        inversions.count(torch.tensor(success), both)
        inversions.look(mask, pattern, both)
        return inversions.weight.tolist()

    assert look(1.0, 0.0) == [0, 0]
    assert inversions.best_norm.tolist() == [0.5, float("inf")]
    weights = [look(1.0, 0.0) for _ in range(3)]
    torch.testing.assert_close(weights, [[0.1, 0.0], [0.1, 0.0], [0.2, 0.0]])
    look(0.0, 0.0)
    torch.testing.assert_close(look(0.0, 0.0), [0.1, 0.0])
    # Raised, lowered, and five looks without a smaller mask: the first is finished, the second was never reached.
    assert inversions.active()
    assert inversions.active_clusters == [1]
