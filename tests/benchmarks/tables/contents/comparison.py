"""The form most tables have: encoders down, ways to purify across, ACC / ASR in each field, beside the paper's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.tables import markdown
from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.cells import Cell, Purification
from tests.benchmarks.tables.contents.note import note
from tests.benchmarks.tables.contents.readings import acc_and_asr, readings
from tests.benchmarks.tables.contents.table import Results, Table
from tests.benchmarks.tables.encoders import ZooEncoder


@dataclass(frozen=True)
class Column:
    """A way to purify, as a cell for an encoder and a seed."""

    title: str
    cell: Callable[[ZooEncoder, int], Purification]


Encoders = Callable[[Bench], Sequence[ZooEncoder]]
Columns = Callable[[Bench], Sequence[Column]]
Label = Callable[[ZooEncoder], str]


def comparison(
    name: str,
    *,
    encoders: Encoders,
    columns: Columns,
    paper: str,
    remark: str = "",
    dataset: str | None = None,
    labels: Sequence[tuple[str, Label]] = (("attack", lambda encoder: encoder.attack_title),),
) -> Table:
    """A table of ``columns`` for ``encoders``, measured on ``dataset`` or on each encoder's own set.

    ``labels`` are headed columns of words beside the encoder's name; ``paper`` is what stands in the paper, ready made.
    """

    def cells(bench: Bench) -> list[Cell]:
        ways = columns(bench)
        return [way.cell(each, seed) for seed in range(bench.seeds) for each in encoders(bench) for way in ways]

    def render(bench: Bench, results: Results) -> str:
        ways = columns(bench)
        headings = ["encoder", *(title for title, _ in labels), "as given", "base", *(way.title for way in ways)]
        rows = []
        for each in encoders(bench):
            on = dataset or each.dataset
            before = [results.of(bench.measurement(each))]
            after = [[results.of(way.cell(each, seed)) for seed in range(bench.seeds)] for way in ways]
            given = [acc_and_asr(before, on), readings(before, on, "base")]
            words = [each.name, *(label(each) for _, label in labels)]
            rows.append([*words, *given, *(acc_and_asr(documents, on) for documents in after)])
        ours = markdown.table(headings, rows, words=1 + len(labels)) if rows else ""
        return "\n\n".join(part for part in (ours, note(cells(bench), results), remark, paper) if part)

    return Table(name, cells, render)


def from_paper(caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The paper's figures, marked as such. Fields are ``ACC / ASR`` unless the caption says otherwise."""
    return f"*The paper, {caption}:*\n\n" + markdown.table(headings, rows)
