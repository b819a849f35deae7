"""Attention distillation: attention by hand, the student follows its teacher."""

import torch

from core.run import QuietRun
from core.unlearning.attention import attention
from core.unlearning.nad import NadConfig, unlearn
from tests.planted import planted_images, planted_patch

QUICK = NadConfig(learning_rate=0.003, teacher_learning_rate=0.003, steps=20, teacher_steps=20, batch_size=32)


def test_attention_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 0.0]], [[-1.0, 2.0]]]])  # two channels of two places: sums 2 and 4
    expected = torch.tensor([[2.0, 4.0]]) / 20**0.5
    torch.testing.assert_close(attention(maps, 2), expected)


def test_the_student_follows_and_clean_features_stay() -> None:
    planted, images = planted_patch(), planted_images(128)
    result = unlearn(planted.encoder, images, [planted.trigger], QUICK, QuietRun(), seed=0)
    assert len(result.history) == result.steps == 20
    assert sum(result.history[-5:]) < sum(result.history[:5])
    assert 0 < result.drift < 0.05
    assert all(not module._forward_hooks for module in result.student.modules())


def test_a_teacher_that_was_not_tuned_teaches_nothing_new() -> None:
    planted, images = planted_patch(), planted_images(64)
    config = QUICK.model_copy(update={"teacher_steps": 0, "steps": 5})
    result = unlearn(planted.encoder, images, [], config, QuietRun(), seed=0)
    assert result.drift < 1e-5
    assert max(result.history) < 1e-4
