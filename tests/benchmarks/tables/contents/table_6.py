"""Table VI: time and memory of every part, on one BadEncoder."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.tables import markdown
from tests.benchmarks.tables.bench import Bench
from tests.benchmarks.tables.cells import Cell, DetectionRun, Purification
from tests.benchmarks.tables.contents.comparison import from_paper
from tests.benchmarks.tables.contents.note import note
from tests.benchmarks.tables.contents.readings import Document, numbers_of
from tests.benchmarks.tables.contents.table import Results, Table
from tests.benchmarks.tables.contents.table_8 import WITH_INFORMATION
from tests.benchmarks.tables.encoders import ZooEncoder
from tests.benchmarks.tables.summary import text

ATTACK = "bad-encoder"
PAPER = from_paper(
    "Table VI, CIFAR-10, seconds on an RTX 4070 Ti",
    ["part", "epochs", "seconds", "RAM, GB", "VRAM, GB"],
    [
        ["fine-tuning", "100", "56.51", "1.32", "1.49"],
        ["trigger recovery", "50", "54.05", "", ""],
        ["trigger recovery with MI", "50", "62.90", "1.71", "3.2"],
        ["unlearning", "100", "111.51", "", ""],
        ["all", "50 + 100", "174.41", "", ""],
        ["retraining", "100", "1601.36", "1.88", "3.3"],
    ],
)
REMARK = """Memory is the process's peak up to the end of the method, libraries and images included. *Trigger recovery*
is the whole detection. *Pre-training* is what training this encoder took, as the zoo's record has it; runs that share
their cores with others take longer on the clock, hence the CPU seconds."""
_NAMES = (("seconds", 1), ("cpu_seconds", 1), ("peak_memory_mib", 0))


def _parts(bench: Bench, encoder: ZooEncoder) -> Sequence[tuple[str, Sequence[DetectionRun | Purification]]]:
    seeds = range(bench.seeds)
    parts: list[tuple[str, Sequence[DetectionRun | Purification]]] = [
        ("trigger recovery", [bench.detection(encoder, seed) for seed in seeds]),
        ("trigger recovery with MI", [bench.detection(encoder, seed, WITH_INFORMATION) for seed in seeds]),
    ]
    titles = {"ssldefender": "unlearning"}
    for method in bench.purification_methods:
        cells = [bench.purification(encoder, seed, {"method": method}) for seed in seeds]
        parts.append((titles.get(method, method), cells))
    parts.append(
        ("further rounds and detections", [bench.purification(encoder, seed, verified=True) for seed in seeds])
    )
    return parts


def _cells(bench: Bench) -> list[Cell]:
    encoder = bench.representative(ATTACK)
    return [] if encoder is None else [cell for _, cells in _parts(bench, encoder) for cell in cells]


def _render(bench: Bench, results: Results) -> str:
    encoder = bench.representative(ATTACK)
    if encoder is None:
        return "\n\n".join([note([], results), PAPER])
    documents = {title: [results.of(cell) for cell in cells] for title, cells in _parts(bench, encoder)}
    rows = [
        [title, *(text(numbers_of(found, name), decimals) for name, decimals in _NAMES)]
        for title, found in documents.items()
        if title != "further rounds and detections"
    ]
    rows += [_purify(documents["trigger recovery"], documents["further rounds and detections"])]
    if encoder.training_seconds is not None:
        rows.append(["pre-training", "", f"{encoder.training_seconds:.1f}", ""])
    ours = markdown.table([encoder.name, "seconds", "CPU s", "peak memory, MiB"], rows)
    return "\n\n".join([ours, note(_cells(bench), results), REMARK, PAPER])


def _purify(detected: Sequence[Document], purified: Sequence[Document]) -> list[str]:
    """The command as a whole: its first detection, which is kept apart, and all the rest."""
    fields = ["purify, the whole command"]
    for name, decimals in _NAMES:
        pairs = zip(numbers_of(detected, name), numbers_of(purified, name), strict=True)
        both = [None if first is None or second is None else (first, second) for first, second in pairs]
        whole = max if name == "peak_memory_mib" else sum
        fields.append(text([None if pair is None else float(whole(pair)) for pair in both], decimals))
    return fields


TABLE = Table("table-6", _cells, _render)
