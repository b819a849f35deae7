"""An evaluation for people: one block of rows per probe. Programs get the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from core.evaluation.accuracy import Evaluation, ProbeResult
    from core.evaluation.rates import Difference, Rate

PROBE_TITLES = {
    "linear": "linear",
    "linear-1pct": "linear, few labels",
    "mlp": "MLP",
    "mlp-official": "MLP, official length",
    "knn": "nearest neighbours",
}


def print_evaluation_table(evaluation: Evaluation) -> None:
    """Rates in per cent and differences in points, with their intervals; rows without a value are left out."""
    about = [f"{evaluation.test_images} test images", f"{len(evaluation.classes)} classes"]
    if evaluation.target_class is not None:
        about.append(f"target {escape(ascii(evaluation.target_class)[1:-1])}")
    table = Table(title=", ".join(about), title_justify="left")
    table.add_column("probe")
    table.add_column("")
    for heading in ("per cent", "95% interval"):
        table.add_column(heading, justify="right")
    for probe in evaluation.probes:
        head = [PROBE_TITLES[probe.name], f"{probe.labels_used} labels"]
        if probe.draws > 1:
            head.append(f"mean of {probe.draws} draws")
        for number, (label, value, points) in enumerate(_rows(probe)):
            interval = f"{value.low:.1f} to {value.high:.1f}"
            table.add_row(head[number] if number < len(head) else "", label, f"{points:.1f}", interval)
        table.add_section()
    Console().print(table)


def _rows(probe: ProbeResult) -> list[tuple[str, Rate | Difference, float]]:
    rates: list[tuple[str, Rate | None]] = [
        ("clean accuracy (ACC)", probe.acc),
        ("  of the clean reference", probe.reference_acc),
        ("accuracy on triggered images", probe.triggered_acc),
        ("attack success rate (ASR)", probe.asr),
        ("  target's own counted too", probe.asr_all),
        ("  without any trigger (base)", probe.base),
        ("  of the clean reference", probe.reference_asr),
    ]
    differences = [("ASR - base, points (net)", probe.net), ("ASR - reference's, points", probe.asr_net)]
    return [
        *((label, rate, rate.percent) for label, rate in rates if rate is not None),
        *((label, found, found.points) for label, found in differences if found is not None),
    ]
