"""Nothing found is *clean* only after a search whose power was measured."""

from __future__ import annotations

from typing import Any

import pytest

from core.recovery.decree import DecreeConfig
from core.recovery.power import Power, shipped_power, worth
from core.recovery.ssl_cleanse import SslCleanseConfig
from core.recovery.ssldefender_search import SSLDefenderConfig
from core.registry import DETECTION

MEASURED = (Power("ssldefender", "default", 32, 8, 7, "a table"), Power("decree", "default", 32, 8, 6, "a table"))
AT_32 = (32, 32)


def of(config: Any, size: tuple[int, int] = AT_32, method: str = "ssldefender") -> tuple[str, ...]:
    return worth(method, config, size, MEASURED).objections


def test_what_was_measured_is_worth_its_word() -> None:
    answer = worth("ssldefender", SSLDefenderConfig(), AT_32, MEASURED)
    assert answer.objections == () and "7 of 8 planted backdoors at 32 pixels" in answer.power


def test_more_than_that_is_too() -> None:
    more = SSLDefenderConfig(steps=200, square_stride=0.05, thresholds=(0.9995,) * 6, target_steps=1)
    assert of(more) == ()


@pytest.mark.parametrize(
    ("values", "search"),
    [
        ({"steps": 1}, "masked patterns"),
        ({"additive_steps": 1}, "additive patterns"),
        ({"spectral_steps": 1}, "spectral patterns"),
        ({"window_steps": 2}, "opaque patches"),
        ({"square_images": 2}, "plain squares"),
        ({"square_stride": 0.5}, "plain squares"),
        ({"batch_size": 2}, "Every search"),
        ({"thresholds": (0.9995,)}, "Every search"),
        ({"thresholds": (0.5, 0.9995, 0.9995, 0.9995)}, "Every search"),
    ],
)
def test_a_starved_search_is_named(values: dict[str, Any], search: str) -> None:
    (objection,) = of(SSLDefenderConfig(**values))
    assert search in objection and next(iter(values)) in objection


@pytest.mark.parametrize("values", [{"square_side": 0.05}, {"mask_budget": 0.001}, {"learning_rate": 1e-6}])
def test_so_are_other_bounds_and_other_rates(values: dict[str, Any]) -> None:
    (objection,) = of(SSLDefenderConfig(**values))
    assert next(iter(values)) in objection and "was measured with" in objection


def test_thresholds_of_other_methods_cannot_be_turned_down() -> None:
    assert of(DecreeConfig(threshold=0.001, doubtful=0.001), method="decree")
    assert of(DecreeConfig(max_epochs=1), method="decree")
    assert of(DecreeConfig(threshold=0.1, doubtful=0.1, max_epochs=1000), method="decree") == ()


def test_a_size_that_nobody_measured_is_said() -> None:
    assert of(SSLDefenderConfig(), (40, 40)) == ()
    (objection,) = of(SSLDefenderConfig(), (224, 224))
    assert "224x224" in objection and "32 pixels" in objection


def test_the_nearest_size_that_was_measured_speaks() -> None:
    rows = (*MEASURED, Power("ssldefender", "quick", 48, 4, 4, "b"), Power("ssldefender", "quick", 64, 4, 3, "c"))
    said = {side: worth("ssldefender", SSLDefenderConfig(), (side, side), rows).power for side in (32, 48, 60, 96)}
    assert [next(s for s in (32, 48, 64) if f"at {s} pixels" in text) for text in said.values()] == [32, 48, 64, 64]
    assert worth("ssldefender", SSLDefenderConfig(), (97, 97), rows).objections


def test_a_search_that_misses_most_acquits_nobody() -> None:
    weak = (Power("ssl-cleanse", "default", 32, 7, 1, "a table"),)
    (objection,) = worth("ssl-cleanse", SslCleanseConfig(), AT_32, weak).objections
    assert "1 of 7" in objection
    assert worth("ssl-cleanse", SslCleanseConfig(), AT_32, MEASURED).objections


def test_every_method_of_detection_says_what_it_is_worth() -> None:
    assert {row.method for row in shipped_power()} == {method.key for method in DETECTION}
    for method in DETECTION:
        assert method.worth is not None
        assert set(getattr(method.config, "effort", {})) <= set(method.config.model_fields)
    assert DETECTION[0].worth is not None and DETECTION[0].worth(DETECTION[0].config(), AT_32).objections == ()
