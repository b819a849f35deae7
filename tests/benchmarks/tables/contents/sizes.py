"""Larger images: a whole audit of every encoder whose images are not of 32 pixels, what it says and what it costs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from core.types import Verdict
from tests.benchmarks.tables import markdown
from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.cells import AuditRun, Cell
from tests.benchmarks.tables.contents.note import note
from tests.benchmarks.tables.contents.readings import Document, reading
from tests.benchmarks.tables.contents.table import Results, Table
from tests.benchmarks.tables.encoders import ZooEncoder
from tests.benchmarks.tables.images import CleanImages
from tests.benchmarks.tables.summary import NOT_RUN, exact_interval

IMAGES = 200
AUDITED_WITH = "photographs"
"""The set whose images every audit gets, where it is there: clean encoders and their planted twins are then told apart
by nothing else."""
SEED = 0
"""Of every audit, however many seeds other tables have: at these sizes one takes long."""

REMARK = """*Score of*: the score that decides, of its threshold. *Search*: the first search for triggers; *detection*:
all that comes before an unlearning, with what settles a doubt; *audit*: the whole command, with the reading of its
files, the forecast and the report. Seconds are those on the clock, in brackets those of the processor; *forecast* is
what `--dry-run` says, least and most. *Passes*: images through the encoder and its copies after the forecast. *Peak*:
resident memory above what the process held before, of the budget for passes. *Delivered*: the verdict on the purified
copy. ACC and net ASR (ASR less base, percentage points) are those of a linear probe, as given → purified. In brackets
after shares: the exact 95 % interval (Clopper and Pearson), in per cent."""

_HEADINGS = (
    "encoder", "side", "planted", "budget", "verdict", "delivered", "score of", "search, s", "its forecast",
    "detection, s", "audit, s", "its forecast", "passes", "peak, MiB", "ACC", "net ASR",
)  # fmt: skip
_SUMMARY = (
    "budget", "side", "planted, called backdoored", "planted, called clean", "clean, called backdoored",
    "median detection, s", "median audit, s",
)  # fmt: skip


def _cell(bench: Bench, encoder: ZooEncoder, budget: str) -> AuditRun:
    dataset = AUDITED_WITH if bench.library.has(AUDITED_WITH) else encoder.dataset
    return bench.audit(encoder, SEED, {"budget": budget}, CleanImages(dataset, IMAGES))


def _cells(bench: Bench) -> list[Cell]:
    return [_cell(bench, encoder, budget) for budget in bench.budgets for encoder in bench.larger]


def _render(bench: Bench, results: Results) -> str:
    rows = [
        [*_words(encoder, budget), *_fields(results, _cell(bench, encoder, budget))]
        for encoder in bench.larger
        for budget in bench.budgets
    ]
    parts = [markdown.table(_HEADINGS, rows, words=6), _summary(bench, results)] if rows else []
    return "\n\n".join([*parts, note(_cells(bench), results), REMARK])


def _words(encoder: ZooEncoder, budget: str) -> list[str]:
    planted = f"{encoder.attack_title}, {encoder.trigger}" if encoder.backdoors else "-"
    return [encoder.name, str(encoder.side), planted, budget]


def _fields(results: Results, cell: AuditRun) -> list[str]:
    document = results.of(cell)
    before = None if cell.before is None else results.of(cell.before)
    purified = _verdict(document) is not None and document is not None and document["purified"]
    return [
        *(_of_audit(document) if document is not None else [NOT_RUN] + ["-"] * 9),
        _changed(before, document if purified else None, cell, _acc),
        _changed(before, document if purified else None, cell, _net_asr),
    ]


def _of_audit(document: Mapping[str, Any]) -> list[str]:
    if document["problem"] is not None:
        return [f"refused: {document['problem']['code']}", *["-"] * 9]
    forecast, score = document["forecast"], document["score"]
    return [
        document["verdict"],
        document["purification"]["verdict"] if document["purified"] else "-",
        "-" if score is None else f"{score:.3f} of {document['threshold']:.3f}",
        f"{document['search_seconds']:,.0f}",
        _span(forecast["search_low"], forecast["search_high"]),
        f"{document['detection_seconds']:,.0f} ({document['detection_cpu_seconds']:,.0f})",
        f"{document['seconds']:,.0f} ({document['cpu_seconds']:,.0f})",
        _span(forecast["seconds_low"], forecast["seconds_high"]),
        f"{document['passes']:,}",
        f"{document['peak_memory_mib']:,.0f} of {document['memory_budget_mib']:,.0f}",
    ]


def _span(low: float, high: float) -> str:
    return f"{low:,.0f} to {high:,.0f}"


def _acc(document: Document, dataset: str) -> float | None:
    return reading(document, dataset, "acc")


def _net_asr(document: Document, dataset: str) -> float | None:
    asr, base = reading(document, dataset, "asr"), reading(document, dataset, "base")
    return None if asr is None or base is None else asr - base


def _changed(before: Document, after: Document, cell: AuditRun, read: Any) -> str:
    """``45.2 → 44.8``; one number where nothing was purified, a dash where nothing was measured."""
    numbers = [read(document, cell.encoder.dataset) for document in (before, after)]
    return " → ".join(f"{number:.1f}" for number in numbers if number is not None) or "-"


def _summary(bench: Bench, results: Results) -> str:
    """A line for each side and one over all, of each budget."""
    sides = sorted({encoder.side for encoder in bench.larger})
    groups = [(str(side), [encoder for encoder in bench.larger if encoder.side == side]) for side in sides]
    rows = []
    for budget in bench.budgets:
        for title, encoders in [*groups, ("all", list(bench.larger))]:
            found = [(bool(each.backdoors), results.of(_cell(bench, each, budget))) for each in encoders]
            planted = [_verdict(document) for backdoored, document in found if backdoored]
            clean = [_verdict(document) for backdoored, document in found if not backdoored]
            ended = [document for _, document in found if document is not None and document["problem"] is None]
            rows.append(
                [
                    budget,
                    title,
                    _share(planted, Verdict.BACKDOORED),
                    _share(planted, Verdict.CLEAN),
                    _share(clean, Verdict.BACKDOORED),
                    *(_median(ended, name) for name in ("detection_seconds", "seconds")),
                ]
            )
    return markdown.table(_SUMMARY, rows, words=2)


def _verdict(document: Document) -> str | None:
    return None if document is None or document["problem"] is not None else str(document["verdict"])


def _share(said: Sequence[str | None], verdict: Verdict) -> str:
    """``3 of 4 (19.4 to 99.4)``, of the audits that ended in a verdict; how many did not is said."""
    there = [word for word in said if word is not None]
    if not there:
        return NOT_RUN if said else "-"
    hits = there.count(verdict)
    low, high = exact_interval(hits, len(there))
    missing = f", {len(said) - len(there)} without a verdict" if len(there) < len(said) else ""
    return f"{hits} of {len(there)} ({100 * low:.1f} to {100 * high:.1f}){missing}"


def _median(documents: Sequence[Mapping[str, Any]], name: str) -> str:
    return f"{statistics.median(row[name] for row in documents):,.0f}" if documents else "-"


TABLE = Table("sizes", _cells, _render)
