"""Distillation from a fine-tuned teacher: the loss falls and clean features stay."""

from core.run import QuietRun
from core.unlearning.ssl_kd import SslKdConfig, unlearn
from tests.planted import planted_images, planted_patch

QUICK = SslKdConfig(steps=30, teacher_steps=10, batch_size=32, learning_rate=0.003, teacher_learning_rate=0.003)


def test_the_loss_falls_and_clean_features_stay() -> None:
    planted, images = planted_patch(), planted_images(128)
    result = unlearn(planted.encoder, images, [planted.trigger], QUICK, QuietRun(), seed=0)
    assert len(result.history) == result.steps == 30
    assert sum(result.history[-5:]) < sum(result.history[:5])
    assert 0 < result.drift < 0.05
    assert result.initial_similarity > 0.9


def test_the_cosine_term_alone_leaves_a_copy_of_the_teacher_as_it_is() -> None:
    planted, images = planted_patch(), planted_images(64)
    config = QUICK.model_copy(update={"teacher_steps": 0, "contrastive_weight": 0.0, "steps": 5})
    assert unlearn(planted.encoder, images, [], config, QuietRun(), seed=0).drift < 1e-5
