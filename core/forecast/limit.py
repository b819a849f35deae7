"""Refuses what is sure to take longer than somebody allows, and names what would not."""

from __future__ import annotations

from collections.abc import Mapping

from core.errors import UsageError
from core.forecast.forecast import Forecast
from core.forecast.words import duration, span

SPARE = 1.25
"""By how much a forecast must keep below a limit to be recommended: the next measurement is a little different."""
ROOM = 2.0
"""A limit that is recommended is so many times the forecast: on a busy machine the next one may be much larger."""


def check_limit(limit: float | None, forecast: Forecast, budgets: Mapping[str, Forecast]) -> None:
    """Nothing where ``forecast`` keeps to ``limit`` seconds, or where there is none. Held against it is what is sure to
    come: an audit that finds something takes longer than one that finds nothing.

    Args:
        budgets: the same audit's forecast with each budget, the cheapest first.

    Raises:
        UsageError: it does not.
    """
    if limit is None or forecast.seconds_low <= limit:
        return
    raise UsageError(
        "too_expensive",
        field="time_limit",
        found=f"a forecast of {span(forecast.seconds_low, forecast.seconds_high)} on {forecast.device}",
        expected=f"at most {duration(limit)}",
        action=_way_out(limit, forecast, budgets),
    )


def _way_out(limit: float, forecast: Forecast, budgets: Mapping[str, Forecast]) -> str:
    fitting = [name for name, one in budgets.items() if SPARE * one.seconds_low <= limit]
    longer = f"--time-limit {limit_for(forecast)} (a service's worker reads WORKER_TIME_LIMIT)"
    if not fitting:
        return f"No budget fits. Allow {longer}, or use a faster device, fewer images or a smaller encoder."
    name = fitting[-1]
    priced = span(budgets[name].seconds_low, budgets[name].seconds_high)
    budget = f'--budget {name} (in a request: the parameter "budget")'
    return f"Use {budget}, which is expected to take {priced}, or allow {longer}."


def limit_for(forecast: Forecast) -> str:
    """A limit, as the option is written, that the same audit keeps to: whole minutes, from three hours on hours."""
    minutes = -(-ROOM * forecast.seconds_low // 60)
    return f"{-(-minutes // 60):.0f}h" if minutes >= 180 else f"{minutes:.0f}m"
