"""Detection over the whole zoo: every method of the catalogue, AUROC over encoders, verdicts by attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.types import Verdict
from tests.benchmarks.tables import markdown
from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.cells import Cell, DetectionRun
from tests.benchmarks.tables.contents.note import note
from tests.benchmarks.tables.contents.readings import Document, numbers_of
from tests.benchmarks.tables.contents.table import Results, Table
from tests.benchmarks.tables.encoders import ZooEncoder
from tests.benchmarks.tables.summary import NOT_RUN, auroc, text, verdicts

PAPER = """SSLDefender's paper has no table of detection rates. SSL-Cleanse's abstract gives a mean detection rate of
82.2 % on ImageNet-100; DECREE's threshold is a P-L1 of 0.1."""

REMARK = """Each method judges by its own default threshold. *Planted*: backdoors planted into a finished encoder;
*poisoned*: learnt from poisoned images, which act weakly. AUROC is over encoders, one for each seed. Counts are of runs
(encoders x seeds); an inconclusive run is neither a detection nor a false alarm and is counted apart."""


def _cell(bench: Bench, encoder: ZooEncoder, method: str, seed: int) -> DetectionRun:
    return bench.detection(encoder, seed, {"method": method})


def _cells(bench: Bench) -> list[Cell]:
    return [
        _cell(bench, encoder, method, seed)
        for seed in range(bench.seeds)
        for method in bench.detection_methods
        for encoder in bench.encoders
    ]


def _render(bench: Bench, results: Results) -> str:
    parts = [_overall(bench, results), _by_attack(bench, results), _by_encoder(bench, results)]
    return "\n\n".join([*parts, note(_cells(bench), results), REMARK, PAPER])


def _overall(bench: Bench, results: Results) -> str:
    clean = [encoder for encoder in bench.encoders if not encoder.backdoors]
    planted = [encoder for encoder in bench.backdoored if not encoder.hard]
    poisoned = [encoder for encoder in bench.backdoored if encoder.hard]
    headings = [
        "method", "AUROC, all", "AUROC, planted", "detected, planted", "detected, poisoned", "false alarms",
        "seconds", "CPU s",
    ]  # fmt: skip
    rows = []
    for method in bench.detection_methods:
        groups = [_documents(bench, results, group, method) for group in (planted, poisoned, clean)]
        everything = [document for group in groups for document in group]
        rows.append(
            [
                method,
                _auroc(bench, results, method, [*planted, *poisoned, *clean]),
                _auroc(bench, results, method, [*planted, *clean]),
                *(verdicts(group).text for group in groups),
                *(text(numbers_of(everything, name), 0) for name in ("seconds", "cpu_seconds")),
            ]
        )
    return markdown.table(headings, rows)


def _by_attack(bench: Bench, results: Results) -> str:
    """Detections, and false alarms in the row of clean encoders."""
    groups: dict[tuple[str, str], list[ZooEncoder]] = {}
    for encoder in bench.encoders:
        groups.setdefault((encoder.attack_title, encoder.trigger), []).append(encoder)
    rows = []
    for (attack, trigger), encoders in sorted(groups.items(), key=lambda group: group[0][0] == "none"):
        found = (_documents(bench, results, encoders, method) for method in bench.detection_methods)
        title = "none (clean): false alarms" if attack == "none" else attack
        rows.append([title, trigger, str(len(encoders)), *(verdicts(documents).text for documents in found)])
    return markdown.table(["called backdoored", "trigger", "encoders", *bench.detection_methods], rows, words=2)


def _by_encoder(bench: Bench, results: Results) -> str:
    rows = []
    for encoder in bench.encoders:
        found = [_documents(bench, results, [encoder], method) for method in bench.detection_methods]
        rows.append([encoder.name, encoder.attack_title, encoder.trainer, encoder.architecture, *map(_score, found)])
    headings = ["score and verdicts", "attack", "trained by", "architecture", *bench.detection_methods]
    return markdown.table(headings, rows, words=4)


def _documents(bench: Bench, results: Results, encoders: Sequence[ZooEncoder], method: str) -> list[Document]:
    return [results.of(_cell(bench, encoder, method, seed)) for encoder in encoders for seed in range(bench.seeds)]


def _auroc(bench: Bench, results: Results, method: str, encoders: Sequence[ZooEncoder]) -> str:
    """Of seeds for which every encoder was run: half a zoo has another AUROC."""
    areas: list[float | None] = []
    for seed in range(bench.seeds):
        found = [(results.of(_cell(bench, encoder, method, seed)), bool(encoder.backdoors)) for encoder in encoders]
        scored = [(document.get("score"), truth) for document, truth in found if document is not None]
        areas.append(auroc(scored) if len(scored) == len(found) else None)
    return text(areas, 3)


def _score(documents: Sequence[Mapping[str, Any] | None]) -> str:
    there = [document for document in documents if document is not None]
    if not there:
        return NOT_RUN
    said = {str(document.get("verdict", "refused")): 0 for document in there}
    for document in there:
        said[str(document.get("verdict", "refused"))] += 1
    order = [*map(str, Verdict), "refused"]
    words = ", ".join(f"{said[word]} {word}" for word in order if word in said)
    score = text([document.get("score") for document in there], 3)
    return words if score == NOT_RUN else f"{score}: {words}"


TABLE = Table("detection", _cells, _render)
