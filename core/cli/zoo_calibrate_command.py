"""``zoo calibrate``: measure what clean encoders score, for the thresholds of verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from core.cli.audit_commands import Debug, Device
from core.cli.console_run import ConsoleRun
from core.cli.lab import require_lab_packages
from core.cli.request_options import make_folder
from core.errors import UsageError


def calibrate(
    zoos: Annotated[list[Path], typer.Argument(metavar="ZOO...", help="Folders that 'zoo build' made.")],
    images: Annotated[Path, typer.Option("--images", metavar="PATH", help="Clean images, as for an audit.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="The bands file; taken up if it is there.")],
    preset: Annotated[
        list[str] | None, typer.Option("--preset", metavar="NAME", help="Preset of the search; repeatable.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", min=1, help="Searches of each encoder.")] = 2,
    add: Annotated[
        bool, typer.Option("--add", help="Keep the encoders that stand in the bands file and are in no zoo given here.")
    ] = False,
    device: Device = "auto",
    debug: Debug = False,
) -> int:
    """Search every clean encoder of the zoos for triggers that are not there, and write down how near it comes.

    Verdicts are read off these numbers (docs/calibration.md). The package ships a file of its own,
    core/recovery/bands.json.
    """
    require_lab_packages("zoo")
    from core.audit import failures_explained  # torch takes seconds to import, and --help must not
    from core.device import resolve_device
    from core.recovery.bands import read_bands
    from core.recovery.ssldefender_search import SSLDefenderConfig
    from core.zoo.calibrate import calibrate as measure
    from core.zoo.calibrate import clean_encoders

    presets = preset or ["default"]
    unknown = [name for name in presets if name not in ("default", *SSLDefenderConfig.presets)]
    if unknown:
        raise UsageError(
            "unknown_preset",
            field="preset",
            found=f"'{unknown[0]}'",
            expected=f"one of default, {', '.join(SSLDefenderConfig.presets)}",
            action="Choose one of these.",
        )
    if output.is_file():
        try:
            read_bands(output.read_text(encoding="utf-8"))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                "not_a_bands_file",
                field="output",
                found=f"'{output}', which is no bands file ({error})",
                expected="a file that this command wrote, or none",
                action="Name another file.",
            ) from error
    make_folder("output", output.absolute().parent)
    console = Console(stderr=True)
    with failures_explained(), ConsoleRun(console) as run:
        where = resolve_device(device)
        searched = measure(clean_encoders(zoos), images, output, presets, run, seeds=seeds, device=where, keep=add)
        for name, seen in searched:
            scores = ", ".join(f"{hypothesis} {score:.2f}" for hypothesis, score in seen.scores.items())
            console.print(escape(f"{name}: {seen.name} ({seen.family}): {scores}"), highlight=False, soft_wrap=True)
    return 0
