"""``detect``, ``purify`` and ``canary``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.cli.answer import Format, audit_summary, print_audit_sentences, print_audit_table, print_json
from core.cli.audit_run import place_report, run_on_console, workplace
from core.cli.exit_codes import exit_code_for
from core.cli.forecast_answer import dry_run as answer_dry_run
from core.cli.request_options import (
    build_parameters,
    check_output,
    check_report_folder,
    read_card,
    read_memory,
    require_output,
)
from core.forecast.words import parse_duration

if TYPE_CHECKING:
    from core.audit import AuditOutcome, AuditRequest

EncoderFile = Annotated[
    Path, typer.Argument(metavar="ENCODER", help="Weights: .safetensors, .pt, .pth or a Hugging Face folder.")
]
ImagesPath = Annotated[
    Path, typer.Argument(metavar="IMAGES", help="Clean, unlabelled images: a folder, zip, tar, table or array.")
]
CardFile = Annotated[Path | None, typer.Option("--card", help="JSON file that says what the weights are.")]
CopyName = Annotated[
    str | None,
    typer.Option("--copy", metavar="NAME", help="Which copy of the encoder, where the file holds several: teacher."),
]
ReportFolder = Annotated[Path | None, typer.Option("--report", metavar="DIR", help="Write report and pictures there.")]
OutputFormat = Annotated[Format, typer.Option("--format", help="What standard output carries.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Where all random choices come from.")]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda:N", help="Where to compute.")]
Memory = Annotated[
    str | None,
    typer.Option(
        "--memory",
        envvar="ENCODER_AUDIT_MEMORY",
        metavar="SIZE",
        help="What the encoder's passes may take, such as 3GiB; otherwise a quarter of what is free.",
    ),
]
MethodKey = Annotated[str | None, typer.Option("--method", help="Detection method; see 'encoder-audit methods'.")]
Budget = Annotated[
    str | None, typer.Option("--budget", metavar="quick|standard|thorough", help="How much to spend on the search.")
]
TimeLimit = Annotated[
    str | None,
    typer.Option("--time-limit", metavar="2h", help="Refuse an audit that is sure to take longer: 90s, 30m, 2h, 1d."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and do nothing else.")]
Preset = Annotated[str | None, typer.Option("--preset", help="Named set of parameters.")]
SetValues = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One parameter; repeatable.")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]
OutputFile = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", help="The purified encoder; the suffix decides. Needed to purify."),
]


def detect(
    encoder: EncoderFile,
    images: ImagesPath,
    card: CardFile = None,
    copy: CopyName = None,
    report: ReportFolder = None,
    output_format: OutputFormat = Format.TABLE,
    seed: Seed = 0,
    device: Device = "auto",
    memory: Memory = None,
    method: MethodKey = None,
    budget: Budget = None,
    preset: Preset = None,
    settings: SetValues = None,
    time_limit: TimeLimit = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
) -> int:
    """Decide whether an encoder is backdoored, and recover the trigger.

    Exit status: 0 clean, 1 backdoored, 5 inconclusive; 2 failed, 3 unsupported file, 4 wrong usage.
    """
    parameters = build_parameters(preset, method, settings or [], budget=budget)
    request = _request("detect", encoder, images, card, copy, parameters, seed, device, memory, time_limit)
    if dry_run:
        return answer_dry_run(request, output_format)
    return exit_code_for(_look(request, report, output_format, force=force).verdict)


def purify(
    encoder: EncoderFile,
    images: ImagesPath,
    output: OutputFile = None,
    card: CardFile = None,
    copy: CopyName = None,
    report: ReportFolder = None,
    output_format: OutputFormat = Format.TABLE,
    seed: Seed = 0,
    device: Device = "auto",
    memory: Memory = None,
    method: MethodKey = None,
    budget: Budget = None,
    preset: Preset = None,
    settings: SetValues = None,
    time_limit: TimeLimit = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
) -> int:
    """Recover the trigger, unlearn it from a copy of the encoder, and check the copy.

    Exit status as for detect, for the encoder that is delivered: 0 when it is clean.
    """
    parameters = build_parameters(preset, method, settings or [], budget=budget)
    request = _request("purify", encoder, images, card, copy, parameters, seed, device, memory, time_limit)
    if dry_run:
        return answer_dry_run(request, output_format)
    output = require_output(output)
    check_output(output, encoder, force=force)
    if report is not None:
        check_report_folder(report, force=force)
    request = replace(request, container=output.suffix.lower())
    with workplace(output.absolute().parent) as folder:
        outcome = run_on_console(request, folder)
        delivered = next(artifact for artifact in outcome.artifacts if artifact.name == "encoder")
        if report is not None:
            place_report(outcome, report)
        delivered.path.replace(output)
    _answer(outcome.report, output_format, output, report)
    return exit_code_for(outcome.report["purification"]["verdict"])


def canary(
    encoder: EncoderFile,
    images: ImagesPath,
    card: CardFile = None,
    copy: CopyName = None,
    report: ReportFolder = None,
    output_format: OutputFormat = Format.TABLE,
    seed: Seed = 0,
    device: Device = "auto",
    memory: Memory = None,
    method: MethodKey = None,
    budget: Budget = None,
    preset: Preset = None,
    settings: SetValues = None,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Steps that plant each backdoor.")] = None,
    time_limit: TimeLimit = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
) -> int:
    """Plant known backdoors in copies of an encoder, and say how many of them the detection finds.

    Exit status as for detect, for the encoder as given; 5 too where the detection missed a planted backdoor.
    """
    parameters = build_parameters(preset, method, settings or [], budget=budget)
    if steps is not None:
        parameters["canary_steps"] = steps
    request = _request("canary", encoder, images, card, copy, parameters, seed, device, memory, time_limit)
    if dry_run:
        return answer_dry_run(request, output_format)
    outcome = _look(request, report, output_format, force=force)
    from core.types import Verdict  # torch takes seconds to import, and --help must not

    seen = outcome.report["canaries"]
    blind = outcome.verdict is Verdict.CLEAN and seen["found"] < seen["planted"]
    return exit_code_for(Verdict.INCONCLUSIVE if blind else outcome.verdict)


def _request(
    kind: str,
    encoder: Path,
    images: Path,
    card: Path | None,
    copy: str | None,
    parameters: Mapping[str, Any],
    seed: int,
    device: str,
    memory: str | None,
    time_limit: str | None,
) -> AuditRequest:
    limit = None if time_limit is None else parse_duration(time_limit)
    given, size = read_card(card), read_memory(memory)
    from core.audit import AuditRequest  # torch takes seconds to import, and --help must not

    return AuditRequest(kind, encoder, images, given, parameters, seed, device, size, copy=copy, time_limit=limit)


def _look(request: AuditRequest, report: Path | None, output_format: Format, *, force: bool) -> AuditOutcome:
    """An audit that delivers no encoder, from the check of the report's place to its answer on standard output."""
    if report is not None:
        check_report_folder(report, force=force)
    with workplace(None) as folder:
        outcome = run_on_console(request, folder)
        if report is not None:
            place_report(outcome, report)
    _answer(outcome.report, output_format, None, report)
    return outcome


def _answer(report: Mapping[str, Any], output_format: Format, output: Path | None, folder: Path | None) -> None:
    if output_format is Format.JSON:
        print_json(audit_summary(report, output, folder))
    else:
        print_audit_table(report)
    print_audit_sentences(report, output, folder)
