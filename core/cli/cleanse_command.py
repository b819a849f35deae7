"""``cleanse``: which images of a training set carry a trigger."""

from __future__ import annotations

import shutil
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from core.cli.answer import Format, print_json
from core.cli.audit_commands import (
    CardFile,
    CopyName,
    Debug,
    Device,
    DryRun,
    Force,
    Memory,
    OutputFormat,
    Preset,
    ReportFolder,
    Seed,
    SetValues,
    TimeLimit,
)
from core.cli.audit_run import place_report, telling, workplace
from core.cli.cleanse_answer import cleansing_summary, print_cleansing_sentences, print_cleansing_table
from core.cli.console_run import ConsoleRun
from core.cli.exit_codes import exit_code_for
from core.cli.forecast_answer import dry_run as answer_dry_run
from core.cli.request_options import (
    build_parameters,
    check_output_folder,
    check_report_folder,
    read_card,
    read_memory,
    require_output,
)
from core.errors import UsageError
from core.forecast.words import parse_duration

if TYPE_CHECKING:
    from core.audit import AuditOutcome, AuditRequest

LISTS = ("keep.csv", "removed.csv", "candidates.csv", "duplicates.csv", "unusable.csv")
PICTURES = "candidates"
"""The folder of the pictures of the best windows, inside the output."""


class Budget(StrEnum):
    """How much to spend; each is a preset by another name."""

    QUICK = "quick"
    STANDARD = "standard"
    PAPER = "paper"


_PRESETS = {Budget.QUICK: "quick", Budget.STANDARD: "default", Budget.PAPER: "paper"}


def cleanse(
    dataset: Annotated[
        Path,
        typer.Argument(metavar="DATASET", help="The images to judge, unlabelled: a folder, zip, tar, table or array."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Write the lists and pictures there. Needed to cleanse."),
    ] = None,
    encoder: Annotated[
        Path | None,
        typer.Option("--encoder", metavar="ENCODER", help="An encoder trained on the set; else one is trained first."),
    ] = None,
    card: CardFile = None,
    copy: CopyName = None,
    report: ReportFolder = None,
    archive: Annotated[bool, typer.Option("--archive", help="Write the cleaned set too, in the same form.")] = False,
    method: Annotated[str | None, typer.Option("--method", help="poison_cam (default) or patch_search.")] = None,
    budget: Annotated[Budget | None, typer.Option("--budget", help="How much to spend on it.")] = None,
    preset: Preset = None,
    settings: SetValues = None,
    seed: Seed = 0,
    device: Device = "auto",
    memory: Memory = None,
    output_format: OutputFormat = Format.TABLE,
    time_limit: TimeLimit = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
) -> int:
    """Find the images of a training set that carry a pasted trigger, and list those that may be trained on.

    An interrupted run goes on where it was when the same command is given again. Exit status: 0 clean, 1 poisoned,
    5 inconclusive; 2 failed, 3 unsupported file, 4 wrong usage.
    """
    if budget is not None and preset is not None:
        raise UsageError(
            "invalid_parameter",
            field="budget",
            found="--budget and --preset",
            expected="one of them: a budget is a preset",
            action="Leave one out.",
        )
    parameters = build_parameters(_PRESETS[budget] if budget else preset, method, settings or [], section="cleansing")
    if archive:
        parameters["archive"] = True
    limit = None if time_limit is None else parse_duration(time_limit)
    given, size = read_card(card), read_memory(memory)
    from core.audit import AuditRequest  # torch takes seconds to import, and --help must not

    request = AuditRequest(
        "cleanse", encoder, dataset, given, parameters, seed, device, size, copy=copy, time_limit=limit
    )
    if dry_run:
        return answer_dry_run(request, output_format)
    output = require_output(output)
    check_output_folder(output, dataset, results=LISTS, force=force)
    if report is not None:
        check_report_folder(report, force=force)
    with workplace(output.absolute().parent) as folder:
        outcome = _run(request, folder, output)
        if report is not None:
            place_report(outcome, report)
        cleaned = _place(outcome, output)
    if output_format is Format.JSON:
        print_json(cleansing_summary(outcome.report, output, cleaned, report))
    else:
        print_cleansing_table(outcome.report)
    print_cleansing_sentences(outcome.report, output, cleaned, report)
    return exit_code_for(outcome.verdict)


def _run(request: AuditRequest, folder: Path, output: Path) -> AuditOutcome:
    """The audit with checkpoints beside ``output``: training and search can take hours."""
    from core.audit import run_audit
    from core.training.checkpoints import checkpoint_folder, content_fingerprint, fingerprint

    given = [content_fingerprint(path) for path in (request.images, request.encoder) if path is not None]
    settings = (request.card, request.copy, request.parameters, request.seed, request.device, version("encoder-audit"))
    console = Console(stderr=True)
    with ConsoleRun(console) as run:
        with checkpoint_folder(output, fingerprint("cleanse", given, *settings), run, say=_say) as resumable:
            return run_audit(telling(request, console, run), folder, resumable)


def _place(outcome: AuditOutcome, output: Path) -> Path | None:
    """The lists, pictures, the threat model and the cleaned set into ``output``; says where the cleaned set is. What an
    earlier audit left there goes, so that nothing stands beside a list that it does not belong to."""
    from core.report.artifacts import CLEANED, REPORT_FILES, THREAT_MODEL

    output.mkdir(exist_ok=True)
    shutil.rmtree(output / PICTURES, ignore_errors=True)
    (output / PICTURES).mkdir()
    for old in (output / THREAT_MODEL, *output.glob(f"{CLEANED}*")):
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    cleaned = None
    for artifact in outcome.artifacts:
        if artifact.name in REPORT_FILES:
            continue
        place = output / PICTURES if artifact.name.startswith("candidate-") else output
        moved = artifact.path.replace(place / artifact.name)
        if artifact.name.partition(".")[0] == CLEANED:
            cleaned = moved
    return cleaned


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)
