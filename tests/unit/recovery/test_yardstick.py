"""Whether an encoder is one of its family, by its answer to weak patterns."""

from dataclasses import replace

import pytest

from core.kinds.detect import needs_surrogate
from core.recovery.bands import Band, shipped_bands
from core.recovery.detection import About, Caveat, Detection
from core.recovery.growth import growth, growth_key
from core.recovery.hypotheses import AdditivePattern
from core.recovery.nulls import Observation, similarity_at
from core.recovery.second_opinion import wants_another
from core.recovery.yardstick import Yardstick
from core.types import Verdict

PATTERN, FAMILY, CLEAN = AdditivePattern(12 / 255), "net at 32x32", 0.4
OBSERVED = tuple(
    Observation(f"{family} {i}", family, "0" * 64, 1, {PATTERN.key: x, "mask": 2.0 + x, growth_key(PATTERN): grown})
    for family in (FAMILY, "other at 32x32")
    for i, (x, grown) in enumerate([(0.3, 1.8), (0.4, 1.9), (0.5, 2.0)])
)
YARDSTICK = Yardstick(Band("default", {}, OBSERVED), FAMILY, ())


def why(full: float, half: float, yardstick: Yardstick = YARDSTICK) -> str | None:
    return yardstick.why_a_stranger(PATTERN, similarity_at(full, CLEAN), similarity_at(half, CLEAN), CLEAN)


@pytest.mark.parametrize("full", [0.3, 0.8, 1.2])
def test_a_response_in_proportion_is_that_of_the_family(full: float) -> None:
    assert why(full, full / 2**1.9) is None
    assert why(full, full / 2**3) is None  # more than they: that is another row's business


def test_a_response_that_hardly_grows_makes_a_stranger() -> None:
    sentence = why(0.8, 0.4)
    assert sentence is not None
    assert "1.00 times, theirs 1.90 times" in sentence and FAMILY in sentence


def test_a_saturated_pattern_says_nothing() -> None:
    """An additive backdoor is as strong at half the strength; its growth is small and its level high."""
    assert why(6.0, 5.0) is None


def test_nor_does_a_pattern_that_does_nothing_or_a_family_that_was_not_measured() -> None:
    assert why(0.02, 0.005) is None
    assert why(0.8, 0.4, replace(YARDSTICK, family="unknown")) is None
    assert why(0.8, 0.4, replace(YARDSTICK, caveats=(Caveat(About.PARAMETERS, "other parameters"),))) is None


def test_every_shipped_encoder_is_one_of_its_family() -> None:
    band = shipped_bands()[0]
    for one in band.observed:
        full = one.scores[PATTERN.key]
        at = [similarity_at(x, CLEAN) for x in (full, full / 2 ** one.scores[growth_key(PATTERN)])]
        assert growth(at[0], at[1], CLEAN) == pytest.approx(one.scores[growth_key(PATTERN)])
        assert Yardstick(band, one.family, ()).why_a_stranger(PATTERN, at[0], at[1], CLEAN) is None


def test_doubt_about_a_stranger_is_put_to_nobody() -> None:
    found = Detection("m", Verdict.INCONCLUSIVE, 0.99, 0.9, ("r",), triggers=(object(),))  # type: ignore[arg-type]
    assert wants_another(found) and not wants_another(replace(found, stranger=True))
    abroad = replace(found, calibrated=False)
    assert needs_surrogate(abroad) and not needs_surrogate(replace(abroad, stranger=True))


def test_the_most_that_clean_encoders_do_is_that_of_any_family() -> None:
    strong = replace(OBSERVED[-1], scores={**OBSERVED[-1].scores, PATTERN.key: 0.9})
    yardstick = replace(YARDSTICK, band=replace(YARDSTICK.band, observed=(*OBSERVED[:-1], strong)))
    assert yardstick.most(PATTERN.key) == 0.9
    assert yardstick.most("mask") == 2.5
    assert yardstick.most("searched with other bounds") == yardstick.null("searched with other bounds").mean
