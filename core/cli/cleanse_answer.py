"""How ``cleanse`` speaks: the result on standard output, everything about it on standard error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.cli.answer import ENCODER_KEYS, coloured, images_summary, print_notes_on_images, print_reading

TRIGGERS = 20
"""Candidates in the answer; candidates.csv has all."""

_SHOWN = 10


def cleansing_summary(
    report: Mapping[str, Any], output: Path, archive: Path | None, folder: Path | None
) -> dict[str, Any]:
    """The answer to a program."""
    found = report["cleansing"]
    return {
        "kind": report["kind"],
        "encoder": {key: report["encoder"][key] for key in ENCODER_KEYS},
        **{key: report[key] for key in ("verdict", "reasons", "untested")},
        **{key: found[key] for key in ("removed", "kept", "scored", "flip_images")},
        "candidate_triggers": found["candidates"][:TRIGGERS],
        "elapsed_seconds": report["elapsed_seconds"],
        "threat_model": found["threat_model"],
        "images": {
            **images_summary(report),
            "duplicates": found["duplicates"]["images"],
        },
        "seed": report["seed"],
        "output": str(output),
        "archive": None if archive is None else str(archive),
        "report": None if folder is None else str(folder),
    }


def print_cleansing_table(report: Mapping[str, Any]) -> None:
    """The best candidate windows, for people."""
    print_reading(report["encoder"], word="Judged by")
    print_notes_on_images(report["images"]["notes"])
    found = report["cleansing"]
    table = Table(title=escape(report["images"]["name"]), title_justify="left", title_style="bold")
    for heading in ("rank", "row", "column", "size", f"flips of {found['flip_images']}"):
        table.add_column(heading, justify="right")
    table.add_column("same pixels as")
    table.add_column("found by")
    table.add_column("image")
    for row in found["candidates"][:_SHOWN]:
        same = "no" if row["group"] is None else f"[red]group {row['group'] + 1}[/]"
        numbers = [str(row[key]) for key in ("rank", "top", "left", "size")]
        by = "its pixels" if row["found_by"] == "match" else "search"
        table.add_row(*numbers, f"{row['flips']:.0f}", same, by, escape(row["name"]))
    Console().print(table)


def print_cleansing_sentences(
    report: Mapping[str, Any], output: Path, archive: Path | None, folder: Path | None
) -> None:
    """The conclusion, why, what the method cannot see, and where the files are; on standard error."""
    console, found = Console(stderr=True), report["cleansing"]

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    say(f"{coloured(report['verdict'])}  {found['removed']} images removed, {found['kept']} kept")
    for reason in report["reasons"]:
        say(f"  {escape(reason)}")
    for note in found["notes"]:
        say(f"  [dim]{escape(note)}[/]")
    say(f"[dim]Cannot be seen:[/] {escape(' '.join(report['untested']))}")
    if report["images"]["rejected"]:
        say(f"[yellow]{len(report['images']['rejected'])} files are no usable images[/]; unusable.csv names them.")
    if found["duplicates"]["groups"]:
        say(f"{found['duplicates']['images']} images are there more than once; duplicates.csv names them.")
    if found["threat_model"] is not None:
        say("The encoder that was trained for this is in the folder too; it is as poisoned as the images.")
    say(f"Lists written to {escape(str(output))}")
    if archive is not None:
        say(f"Cleaned set written to {escape(str(archive))}")
    if folder is not None:
        say(f"Report written to {escape(str(folder / 'report.html'))}")
    say(f"[dim]{report['elapsed_seconds']:.0f} s on {escape(report['device'])}[/]")
