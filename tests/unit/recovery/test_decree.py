"""DECREE on the planted patch: the mask shrinks further on the backdoored encoder than on its twin."""

from core.recovery.decree import DecreeConfig, detect
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
