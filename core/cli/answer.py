"""How the command line speaks: the result on standard output, everything about it on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.errors import Problem

COLOURS = {"clean": "green", "backdoored": "red", "poisoned": "red", "inconclusive": "yellow"}


ENCODER_KEYS = ("name", "sha256", "architecture", "audited", "assumptions")
"""What an answer to a program says of an encoder."""


class Format(StrEnum):
    """What standard output carries: a table for people or exactly one JSON object for programs."""

    TABLE = "table"
    JSON = "json"


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON object, on one line."""
    sys.stdout.write(json.dumps(document, ensure_ascii=True, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_problem(problem: Problem, *, as_json: bool) -> None:
    """What went wrong: a sentence on standard error and, for programs, an ``error`` object on standard output."""
    if as_json:
        print_json({"error": problem.to_dict()})
    console = Console(stderr=True)
    console.print(f"[bold red]Error[/] {escape(problem.sentence())}", highlight=False, soft_wrap=True)


def audit_summary(report: Mapping[str, Any], output: Path | None, folder: Path | None) -> dict[str, Any]:
    """The answer of ``detect`` and ``purify`` to a program. ``verdict`` is about the encoder that was given,
    ``purified`` about the one that was delivered."""
    purification = report["purification"]
    purified = None
    if purification is not None:
        wanted = ("performed", "verdict", "score", "threshold", "drift", "neighbour_agreement", "sha256")
        purified = {key: purification[key] for key in wanted}
    return {
        "kind": report["kind"],
        "encoder": {key: report["encoder"][key] for key in ENCODER_KEYS},
        **{key: report[key] for key in ("verdict", "score", "threshold", "margin", "reasons", "untested")},
        "elapsed_seconds": report["elapsed_seconds"],
        "images": images_summary(report),
        "seed": report["seed"],
        "purified": purified,
        "canaries": report["canaries"],
        "output": None if output is None else str(output),
        "report": None if folder is None else str(folder),
    }


def print_reading(encoder: Mapping[str, Any], console: Console | None = None, *, word: str = "Audited") -> None:
    """What was audited and what was assumed: the first lines of an answer. ``encoder`` has ``audited`` and
    ``assumptions``."""
    console = console or Console()
    console.print(f"[bold]{word}:[/] {escape(encoder['audited'])}", highlight=False, soft_wrap=True)
    for assumption in encoder["assumptions"]:
        console.print(f"  [yellow]Check:[/] {escape(assumption)}", highlight=False, soft_wrap=True)


def images_summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer to a program says of the images."""
    images = report["images"]
    return {
        "count": images["count"],
        "distinct": images["distinct"],
        "rejected": len(images["rejected"]),
        "notes": images["notes"],
    }


def print_notes_on_images(notes: Sequence[str], console: Console | None = None, *, word: str = "Images") -> None:
    """How the images were read, where there is something to say: one of the first lines of an answer."""
    if notes:
        (console or Console()).print(f"[bold]{word}:[/] {escape(' '.join(notes))}", highlight=False, soft_wrap=True)


def print_audit_table(report: Mapping[str, Any]) -> None:
    """The same for people: one row per kind of trigger, before and after."""
    print_reading(report["encoder"])
    print_notes_on_images(report["images"]["notes"])
    table = Table(title=escape(report["encoder"]["name"]), title_justify="left", title_style="bold")
    for heading in ("encoder", "trigger looked for"):
        table.add_column(heading)
    for heading in ("score", "threshold"):
        table.add_column(heading, justify="right")
    table.add_column("found")
    _add_rows(table, "as given", report["hypotheses"], report["verdict"])
    purification = report["purification"]
    if purification is not None:
        _add_rows(table, "purified", purification["hypotheses"], purification["verdict"])
    for row in report["canaries"]["rows"] if report["canaries"] is not None else []:
        answer = "[green]found[/]" if row["found"] else "[red]missed[/]" if row["planted"] else "did not take"
        table.add_row("planted", escape(row["name"]), _number(row["score"]), _number(row["threshold"]), answer)
    Console().print(table)


def print_audit_sentences(report: Mapping[str, Any], output: Path | None, folder: Path | None) -> None:
    """The conclusion, why, what was not tested, and where the files are; on standard error."""
    console = Console(stderr=True)

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    say(f"{coloured(report['verdict'])}  score {_number(report['score'])}, threshold {_number(report['threshold'])}")
    for reason in report["reasons"]:
        say(f"  {escape(reason)}")
    if report["canaries"] is not None:
        say(f"[bold]{escape(report['canaries']['sentence'])}[/]")
    if report["untested"]:
        say(f"[dim]Not tested:[/] {escape(' '.join(report['untested']))}")
    if report["images"]["rejected"]:
        say(f"[yellow]{len(report['images']['rejected'])} images could not be used[/]; the report names them.")
    purification = report["purification"]
    if purification is not None:
        say(f"Purified: {coloured(purification['verdict'])}  {escape(purification['explanation'])}")
    if output is not None:
        say(f"Encoder written to {escape(str(output))}")
    if folder is not None:
        say(f"Report written to {escape(str(folder / 'report.html'))}")
    say(f"[dim]{report['elapsed_seconds']:.0f} s on {escape(report['device'])}[/]")


def _add_rows(table: Table, which: str, hypotheses: list[Mapping[str, Any]], verdict: str) -> None:
    for row in hypotheses:
        table.add_row(
            which, escape(row["name"]), _number(row["score"]), _number(row["threshold"]), _answer(row, verdict)
        )


def _answer(row: Mapping[str, Any], verdict: str) -> str:
    """Whether a trigger of this kind was found. A score may reach its threshold and prove nothing: the reasons say
    why."""
    if row["score"] < row["threshold"]:
        return "[yellow]in doubt[/]" if row["score"] >= (row["doubtful"] or row["threshold"]) else "[green]no[/]"
    return "[red]yes[/]" if verdict == "backdoored" else "[yellow]no proof[/]"


def coloured(verdict: str) -> str:
    """The verdict as a word in its colour."""
    return f"[bold {COLOURS[verdict]}]{verdict.upper()}[/]"


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4g}"
