"""What an audit will cost, on the console: a line before it starts, or, with ``--dry-run``, all that is known."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.cli.answer import Format, print_json, print_notes_on_images, print_reading
from core.cli.console_run import ConsoleRun

if TYPE_CHECKING:
    from core.audit import AuditRequest
    from core.forecast.forecast import Forecast


def dry_run(request: AuditRequest, output_format: Format) -> int:
    """Answer ``--dry-run``: what would be audited, what was assumed, and what it would cost. Exit status 0 says nothing
    of the encoder."""
    from core.audit import forecast_audit  # torch takes seconds to import, and --help must not

    heard: list[tuple[dict[str, Any], list[str]]] = []
    with ConsoleRun(Console(stderr=True)) as run:
        hears = replace(request, on_read=lambda reading, notes: heard.append((asdict(reading), list(notes))))
        forecast = forecast_audit(hears, run)
    encoder, notes = heard[0]
    if output_format is Format.JSON:
        reading = {key: encoder[key] for key in ("audited", "assumptions")}
        load = forecast.load
        images = {"count": load.images, "height": load.height, "width": load.width, "notes": notes}
        print_json(
            {
                "kind": request.kind,
                "dry_run": True,
                "encoder": reading,
                "images": images,
                "forecast": forecast.to_json(),
            }
        )
        return 0
    print_reading(encoder, word="Would be audited")
    print_notes_on_images(notes)
    console = Console()
    console.print(forecast_sentence(forecast), highlight=False, soft_wrap=True)
    console.print(_table(forecast))
    return 0


def forecast_sentence(forecast: Forecast) -> str:
    """How long, how many passes, how much memory."""
    from core.forecast.words import size, span

    threads = f"{forecast.threads} thread{'s' if forecast.threads > 1 else ''}"
    where = f"{forecast.device}, {threads}" if forecast.device == "cpu" else forecast.device
    return (
        f"[bold]Forecast:[/] {span(forecast.seconds_low, forecast.seconds_high)} on {escape(where)}; "
        f"{forecast.passes:,} images through the encoder if nothing is found; "
        f"about {size(forecast.memory_bytes)} of memory."
    )


def _table(forecast: Forecast) -> Table:
    from core.forecast.words import duration, span

    table = Table()
    table.add_column("part")
    for heading in ("passes", "with gradient", "time"):
        table.add_column(heading, justify="right")
    for one in forecast.parts:
        passes = one.part.passes
        time = span(one.seconds_low, one.seconds_high) if one.seconds_low < one.seconds_high else None
        table.add_row(
            escape(one.part.name) + ("" if one.part.certain else " [dim](perhaps)[/]"),
            f"{passes.images:,.0f}",
            f"{passes.backward + passes.training:,.0f}",
            time or duration(one.seconds_high),
        )
    return table
