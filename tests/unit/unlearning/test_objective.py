"""The goal of triggered features: from the teacher's to the student's, and a little beyond."""

import pytest
import torch

from core.ops.cosine import paired_similarity, unit
from core.random import generator
from core.unlearning.objective import beyond, goal_of, own_share, paired_distance, sliced_distance
from core.unlearning.utility import UtilityEvaluator
from tests.planted import planted_images, planted_patch


def features(seed: int, rows: int = 16, size: int = 8) -> torch.Tensor:
    return torch.randn(rows, size, generator=generator(seed, "features"))


def test_the_goal_moves_from_the_teachers_features_to_the_students() -> None:
    shares = [own_share(step / 30, 0.6) for step in range(30)]
    assert shares[:6] == [0.0] * 6 and shares[18:] == [1.0] * 12
    assert all(0 < share < 1 for share in shares[7:18]) and shares == sorted(shares)
    assert {own_share(step / 30, 0.0) for step in range(30)} == {1.0}
    assert {own_share(step / 30, 3.0) for step in range(30)} == {0.0}
    own, taught = features(0), features(1)
    assert torch.equal(goal_of(own, taught, 1.0), own)
    assert torch.allclose(goal_of(own, taught, 0.0), unit(taught))


@pytest.mark.parametrize("overshoot", [0.1, 0.5])
def test_beyond_turns_each_goal_away_from_where_its_trigger_led(overshoot: float) -> None:
    goal, led_to = features(0), unit(features(1))
    moved = beyond(goal, led_to, overshoot)
    # Gram-Schmidt by hand: only what is at right angles to the goal moves it, so that tan(angle) is its length.
    across = led_to - (led_to * unit(goal)).sum(1, keepdim=True) * unit(goal)
    angle = paired_similarity(moved, goal).acos()
    assert torch.allclose(angle.tan(), overshoot * across.norm(dim=1), atol=1e-5)
    assert bool((paired_similarity(moved, led_to) < paired_similarity(goal, led_to)).all())


def test_no_overshoot_and_triggers_that_led_nowhere_leave_the_goal() -> None:
    goal = features(0)
    assert beyond(goal, unit(features(1)), 0.0) is goal
    assert torch.allclose(beyond(goal, torch.zeros_like(goal), 0.5), unit(goal))


def test_leads_are_long_for_a_backdoors_trigger_and_short_for_noise() -> None:
    planted, images = planted_patch(), planted_images(64).batch(slice(None))

    def noise(clean: torch.Tensor) -> torch.Tensor:
        return (clean + 0.01 * torch.randn(clean.shape[1:], generator=generator(0, "noise"))).clamp(0, 1)

    of_backdoor, of_noise = UtilityEvaluator(planted.encoder, images, [planted.trigger, noise]).leads()
    assert float(of_backdoor.norm()) > 0.9
    assert float(of_backdoor @ planted.direction) > 0.9
    assert float(of_noise.norm()) < 0.1


def test_both_distances_vanish_for_equal_directions_and_grow_with_the_angle() -> None:
    first = features(0)
    sliced = sliced_distance(8, 64, generator(0, "directions"), first)
    for distance in (paired_distance, sliced):
        assert float(distance(first, 3 * first)) == pytest.approx(0, abs=1e-5)
        assert 0 < float(distance(first, first + 0.1 * features(1))) < float(distance(first, features(1)))
