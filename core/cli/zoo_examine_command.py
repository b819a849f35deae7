"""``zoo examine``: what every search finds in each encoder of a population, clean or backdoored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from core.cli.audit_commands import Debug
from core.cli.lab import require_lab_packages
from core.cli.request_options import make_folder
from core.errors import UsageError

if TYPE_CHECKING:
    from core.decision.population import ReferenceEncoder


def examine(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The population's list of encoders: a YAML file.")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder with the recipe's data sets.")],
    zoo: Annotated[Path, typer.Option("--zoo", metavar="DIR", help="Where 'zoo build' built the recipe.")],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Gets one file per encoder.")],
    preset: Annotated[str, typer.Option("--preset", metavar="NAME", help="Preset of the searches.")] = "default",
    part: Annotated[
        list[str] | None, typer.Option("--part", metavar="PART", help="Only this part's encoders; repeatable.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="Just this one; repeatable.")] = None,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=1, max=64, help="Encoders examined at once.")] = 1,
    debug: Debug = False,
) -> int:
    """Search every encoder of a population, and keep what was found.

    What was examined before, with the same weights and parameters, is not searched again. Exit status 0: all chosen
    encoders are examined; 2: some are not built, or nothing can be concluded from them.
    """
    require_lab_packages("zoo")
    from core.audit import failures_explained  # torch takes seconds to import, and --help must not
    from core.recovery.ssldefender_search import SSLDefenderConfig
    from core.threads import usable_cores
    from core.zoo.examine import Work, examine_all
    from core.zoo.recipe import load_recipe

    _require("preset", [preset], ["default", *SSLDefenderConfig.presets])
    _require("part", part or [], ["design", "calibration", "test"])
    with failures_explained():
        encoders = load_recipe(recipe).encoders
        _require("only", only or [], [one.name for one in encoders])
        chosen = [one.name for one in encoders if (not part or one.part in part) and (not only or one.name in only)]
        make_folder("output", output)
        console = Console(stderr=True)
        threads = max(1, usable_cores() // jobs)
        works = [Work(recipe, data, zoo, output, name, preset, threads) for name in chosen]
        left = []
        for number, (name, seen) in enumerate(examine_all(works, jobs), start=1):
            left += [name] if seen is None else []
            console.print(escape(f"{number}/{len(works)} {_line(name, seen)}"), highlight=False, soft_wrap=True)
    return 2 if left else 0


def _line(name: str, seen: ReferenceEncoder | None) -> str:
    if seen is None:
        return f"{name}: not built, or nothing can be concluded from it"
    found = ", ".join(f"{one.search} {one.effect:.2f}" for one in seen.examination.evidence)
    return f"{name} ({seen.attack or 'clean'}): {found}"


def _require(field: str, given: list[str], known: list[str]) -> None:
    unknown = [one for one in given if one not in known]
    if unknown:
        raise UsageError(
            f"unknown_{field}",
            field=field,
            found=f"'{unknown[0]}'",
            expected=f"one of {', '.join(known)}",
            action="Choose one of these.",
        )
