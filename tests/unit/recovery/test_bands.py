"""The shipped yardstick, and what is said where it does not fit."""

import pytest

from core.recovery.bands import Band, band_for, bands_json, read_bands, shipped_bands
from core.recovery.growth import growth_key, growth_null
from core.recovery.nulls import Observation, null_for
from core.recovery.ssldefender_search import SSLDefenderConfig, pattern_of
from core.recovery.verdict import ALARM
from core.recovery.yardstick import yardstick_for
from tests.planted import planted_patch

CONFIG = SSLDefenderConfig()
PATTERN = pattern_of(CONFIG)


def band(family: str) -> Band:
    observed = tuple(Observation(f"{i}", family, "0" * 64, 2, {"mask": 2.0 + i / 10}) for i in range(3))
    return Band("default", CONFIG.model_dump(mode="json"), observed)


def test_what_is_written_is_read_again() -> None:
    bands = (band("a"),)
    assert read_bands(bands_json(bands, {"images": "x.zip"})) == bands
    with pytest.raises(ValueError, match="format"):
        read_bands('{"format": "other"}')


def test_the_package_ships_clean_encoders_for_the_default_parameters() -> None:
    shipped = band_for(CONFIG, shipped_bands())
    assert shipped is not None and shipped.preset == "default"
    assert len(shipped.observed) >= 4
    names = {name for one in shipped.observed for name in one.scores}
    squares = {name for name in names if name.startswith("plain-square@")}
    assert len(names) == 6 and growth_key(PATTERN) in names and len(squares) == 1
    assert all(names - set(one.scores) <= squares for one in shipped.observed)
    assert sum(squares <= set(one.scores) for one in shipped.observed) >= 5


def test_no_shipped_encoder_is_called_backdoored_by_the_others() -> None:
    observed = shipped_bands()[0].observed
    for one in observed:
        others = [other for other in observed if other.sha256 != one.sha256]
        for name, x in one.scores.items():
            growing = name == growth_key(PATTERN)
            null = growth_null(PATTERN, one.family, others) if growing else null_for(name, one.family, others)
            assert null is not None and x < null.limit(ALARM), (one.name, name)


def test_an_encoder_of_a_measured_family_has_no_caveat() -> None:
    encoder = planted_patch().encoder
    encoder.architecture = "some/net"
    yardstick = yardstick_for(encoder, CONFIG, [band("some/net at 32x32")])
    assert yardstick.caveats == ()
    assert yardstick.null("mask").own_family


def test_other_parameters_and_other_families_are_said() -> None:
    encoder = planted_patch().encoder
    other = CONFIG.model_copy(update={"steps": 7})
    yardstick = yardstick_for(encoder, other, [band("some/net at 32x32")])
    assert len(yardstick.caveats) == 2
    assert "default parameters" in yardstick.caveats[0].sentence and "unknown at 32x32" in yardstick.caveats[1].sentence
    # A kind of trigger that was never searched with these bounds borrows the widest of the others.
    assert yardstick.null("additive@0.3882").limit(0.01) == yardstick.null("mask").limit(0.01)
