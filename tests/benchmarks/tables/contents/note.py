"""What a table's numbers were measured on: every sentence from the results themselves."""

from __future__ import annotations

from collections.abc import Iterable

from tests.benchmarks.tables.cells import Cell, Measurement, Purification
from tests.benchmarks.tables.contents.table import Results
from tests.benchmarks.tables.poison_cells import Retraining
from tests.benchmarks.tables.schedule import with_needs


def note(cells: Iterable[Cell], results: Results) -> str:
    """One paragraph; where nothing was run, it says so."""
    wanted = with_needs(cells)
    if not wanted:
        return "Nothing to measure: the zoo has no encoder for this table."
    there = [(cell, document) for cell in wanted if (document := results.of(cell)) is not None]
    if not there:
        return f"Not run: none of {len(wanted)} runs."
    places = [document["environment"] for _, document in there]
    machines = _distinct(
        f"{p['cores']} cores ({p['system']}, {p['machine']}, {p['device']}), {p['threads']} thread(s) a run"
        for p in places
    )
    software = _distinct(f"Python {p['python']}, PyTorch {p['versions']['torch']}" for p in places)
    commits = _distinct(p["commit"] or "unknown" for p in places)
    counts = _distinct(str(document["images"]) for _, document in there if "images" in document)
    seeds = _distinct(str(seed) for cell, _ in there if (seed := _seed(cell)) is not None)
    tests = {
        f"images of {name}: {part['fitted_on']:,} to fit the probe, {part['tested_on']:,} to test"
        for _, document in there
        for name, part in document.get("measured", {}).items()
    }
    parts = [
        f"{len(there)} of {len(wanted)} runs measured on {machines}; {software}; commit {commits}",
        f"seed(s) {seeds}" if seeds else "",
        f"{counts} images" if counts else "",
        "; ".join(sorted(tests)),
    ]
    refused = sum(document["problem"] is not None for _, document in there)
    parts.append(f"{refused} refused" if refused else "")
    return ". ".join(part[0].upper() + part[1:] for part in parts if part) + "."


def _seed(cell: Cell) -> int | None:
    if isinstance(cell, Purification):
        return cell.detection.seed
    if isinstance(cell, Retraining):
        return cell.cleansing.seed
    return None if isinstance(cell, Measurement) else cell.seed


def _distinct(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(words))
