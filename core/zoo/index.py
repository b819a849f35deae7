"""What a finished zoo shows: ``index.json`` for programs, a table in Markdown for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.zoo.recipe import EncoderRecipe
from core.zoo.record import EncoderRecord, read_record, write_json
from core.zoo.stranger import card_of
from core.zoo.workshop import Workshop

INDEX_FORMAT = "encoder-audit-zoo-index/1"
TABLE_BEGINS, TABLE_ENDS = "<!-- table -->", "<!-- /table -->"
_HEADINGS = (
    "encoder", "trained by", "architecture", "attack", "ACC", "ACC 1 %", "ASR", "base", "net", "ASR 1 %", "net 1 %",
    "net kNN", "epochs", "seconds", "CPU s", "images/s", "filed as",
)  # fmt: skip


def records(shop: Workshop) -> list[EncoderRecord]:
    """The records of the zoo's encoders, in the recipe's order."""
    found = [read_record(shop.record_path(entry.name)) for entry in shop.recipe.encoders]
    return [record for record in found if record is not None]


def write_index(shop: Workshop) -> None:
    """``index.json``: each encoder's file, truth and record, by name."""
    rows = {
        record.name: {
            "weights": str(shop.weights(record.name, accepted=record.accepted).relative_to(shop.output)),
            "truth": f"truth/{record.name}.json",
            "record": f"records/{record.name}.json",
            "sha256": record.sha256,
            "accepted": record.accepted,
            "backdoored": record.attack is not None and record.accepted,
        }
        for record in records(shop)
    }
    write_json(shop.output / "index.json", {"format": INDEX_FORMAT, "zoo": shop.recipe.name, "encoders": rows})


def table(shop: Workshop) -> str:
    """The zoo as a Markdown table: rates in per cent, net in points over the clean reference."""
    rows = [_row(shop, record) for record in records(shop)]
    lines = [_line(_HEADINGS), _line(["---"] * 4 + ["---:"] * 12 + ["---"])]
    return "\n".join([*lines, *(_line(row) for row in rows)]) + "\n"


def write_table(path: Path, text: str) -> None:
    """Write the table to ``path``: between the lines ``TABLE_BEGINS`` and ``TABLE_ENDS`` of a page that has them, and
    as the whole file otherwise."""
    page = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, begins, rest = page.partition(TABLE_BEGINS)
    _, ends, after = rest.partition(TABLE_ENDS)
    if begins and ends:
        text = f"{before}{begins}\n{text}{ends}{after}"
    path.write_text(text, encoding="utf-8")


def _row(shop: Workshop, record: EncoderRecord) -> list[str]:
    entry = next(entry for entry in shop.recipe.encoders if entry.name == record.name)
    origin = entry if entry.base is None else next(e for e in shop.recipe.encoders if e.name == entry.base)
    trained_by, architecture = _origin(origin)
    full, few, near = (_probe(record, name) for name in ("linear", "linear-1pct", "knn"))
    attack = "" if record.attack is None else str(record.attack["method"])
    filed = "clean" if record.attack is None else "backdoored" if record.accepted else "failed attack"
    return [
        record.name,
        trained_by,
        architecture.partition("/")[2],
        attack,
        _rate(full, "acc"),
        _rate(few, "acc"),
        _rate(full, "asr"),
        _rate(full, "base"),
        _net(full),
        _rate(few, "asr"),
        _net(few),
        _net(near),
        "" if record.epochs is None else f"{record.epochs:g}",
        f"{record.seconds:.0f}",
        "" if record.cpu_seconds is None else f"{record.cpu_seconds:.0f}",
        f"{record.images_per_second:.0f}",
        filed,
    ]


def _origin(entry: EncoderRecipe) -> tuple[str, str]:
    """By what a clean encoder was trained, and its architecture."""
    if entry.weights is not None:
        return "strangers", card_of(entry.weights).architecture
    assert entry.card is not None and entry.training is not None
    return entry.training.method, entry.card.architecture


def _probe(record: EncoderRecord, name: str) -> Mapping[str, Any]:
    probes: Sequence[Mapping[str, Any]] = record.evaluation["probes"]
    return next(probe for probe in probes if probe["name"] == name)


def _rate(probe: Mapping[str, Any], name: str) -> str:
    rate = probe.get(name)
    return "" if rate is None else f"{rate['percent']:.1f}"


def _net(probe: Mapping[str, Any]) -> str:
    net = probe.get("asr_net")
    return "" if net is None else f"{net['points']:+.1f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
