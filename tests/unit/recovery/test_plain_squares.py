"""The search for plain squares, on an encoder that answers to the whole of one and to nothing less."""

import pytest

from core.passes import TYPICAL
from core.recovery.forward import frozen
from core.recovery.nulls import remaining_gap
from core.recovery.plain_squares import STAGE, PlainSquare, SquareSettings, search_squares, square_stage
from core.recovery.preconditions import clean_similarity
from core.recovery.ssldefender import detect, expand_triggers
from core.recovery.ssldefender_search import SSLDefenderConfig
from core.run import QuietRun
from core.types import Verdict
from tests.planted import planted_images, planted_square

SETTINGS = SquareSettings(side=0.375, stride=0.0625, images=6)
SHORT = SSLDefenderConfig(
    thresholds=(0.9995, 0.9995), steps=60, additive_steps=20, spectral_steps=20, batch_size=24, target_steps=6
)


@pytest.mark.parametrize(("size", "largest", "stride"), [((32, 32), 12, 2), ((64, 48), 18, 3), ((224, 224), 84, 14)])
def test_the_grid_covers_every_smaller_square(size: tuple[int, int], largest: int, stride: int) -> None:
    grid = SETTINGS.grid(*size)
    assert all(square.fits(*size) for square in grid) and max(square.side for square in grid) == largest
    side = largest - stride  # wherever one of this side lies, some square of the grid covers it
    tops = {s.top for s in grid if s.side == largest}
    assert all(any(top <= here and here + side <= top + largest for top in tops) for here in range(size[0] - side + 1))


def test_the_whole_square_is_found_where_gradients_see_nothing() -> None:
    planted, images = planted_square(), planted_images(96)
    detection = detect(planted.encoder, images, SHORT, QuietRun(), seed=0)
    assert detection.verdict is Verdict.BACKDOORED
    assert detection.decided_by == "plain square of up to 12x12 pixels at one place"
    others = [row for row in detection.hypotheses if row.name != detection.decided_by]
    assert len(others) >= 4 and all(row.score < row.threshold for row in others)
    expanded = expand_triggers(planted.encoder, images, SHORT, detection, QuietRun(), seed=0)
    best = expanded.triggers[0].trigger
    assert float((best.mask * planted.trigger.mask).sum()) >= 95  # type: ignore[union-attr]


def test_its_clean_twin_is_clean() -> None:
    assert detect(planted_square().twin, planted_images(96), SHORT, QuietRun(), seed=0).verdict is Verdict.CLEAN


def test_candidates_are_bounded_and_the_best_stands_first() -> None:
    encoder = frozen(planted_square().encoder)
    images = planted_images(64).batch(slice(None))
    found = search_squares(encoder, images[:48], images[48:], SETTINGS, QuietRun())
    assert found[0].score > 0.99
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    assert all(c.score <= c.similarity for c in found)
    squares = [c.hypothesis for c in found]
    assert all(isinstance(one, PlainSquare) and one.side <= 12 for one in squares)
    assert {one.name for one in squares} == {"plain square of up to 12x12 pixels at one place"}


def test_what_a_square_does_anywhere_does_not_count() -> None:
    """Of the twin any bright square makes features alike, wherever it lies; it has learnt no place."""
    encoder = frozen(planted_square().twin)
    images = planted_images(64).batch(slice(None))
    floor = clean_similarity(encoder, images[48:])
    best = max(search_squares(encoder, images[:48], images[48:], SETTINGS, QuietRun()), key=lambda c: c.similarity)
    assert remaining_gap(best.similarity, floor) > 2
    assert remaining_gap(best.score, floor) < 0.7


def test_a_wider_stride_and_fewer_images_cost_less() -> None:
    def cost(stride: float, images: int) -> float:
        return square_stage(SquareSettings(0.375, stride, images), TYPICAL, 0)[STAGE].forward

    assert cost(0.125, 6) < cost(0.0625, 6)
    assert cost(0.0625, 3) == cost(0.0625, 6) / 2
