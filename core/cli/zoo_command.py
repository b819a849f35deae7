"""``zoo build``: a whole list of encoders, clean and backdoored, each measured and with its truth."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from core.cli.answer import Format, print_json
from core.cli.audit_commands import Debug, Device, OutputFormat
from core.cli.console_run import ConsoleRun
from core.cli.lab import require_lab_packages
from core.cli.request_options import make_folder
from core.errors import UsageError
from core.threads import usable_cores

if TYPE_CHECKING:
    from core.zoo.job import JobResult
    from core.zoo.workshop import Workshop


def build(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="The list of encoders: a YAML file.")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder with the recipe's data sets.")],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where the zoo is built.")] = Path(
        "zoo-output"
    ),
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=1, max=64, help="Encoders built at once.")] = 1,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="Just this one; repeatable.")] = None,
    table: Annotated[
        Path | None,
        typer.Option("--table", metavar="FILE", help="Write the table there, too; into a page that has its marks."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, build nothing.")] = False,
    output_format: OutputFormat = Format.TABLE,
    device: Device = "auto",
    debug: Debug = False,
) -> int:
    """Build every encoder of a recipe that is not built yet, and print the table.

    Encoders that exist and whose recipe has not changed are kept; one that was interrupted goes on from its last
    checkpoint. Exit status 0: all are built; 2: some could not be, or an attack stayed below its floor.
    """
    require_lab_packages("zoo")
    from core.audit import failures_explained  # torch takes seconds to import, and --help must not
    from core.device import resolve_device
    from core.zoo.check import check_recipe
    from core.zoo.index import table as zoo_table
    from core.zoo.index import write_index, write_table
    from core.zoo.recipe import load_recipe
    from core.zoo.schedule import unbuilt
    from core.zoo.workshop import Workshop

    with failures_explained():
        shop = Workshop(load_recipe(recipe), data, output, resolve_device(device))
        check_recipe(shop)
        wanted = _chosen(shop, only)
        if dry_run:
            _say(f"{len(shop.recipe.encoders)} encoders; every part of the recipe fits.")
            return 0
        make_folder("output", output)
        if table is not None:
            make_folder("table", table.absolute().parent)
        todo = [name for name in unbuilt(shop) if name in wanted]
        _say(f"{len(wanted)} encoders, {len(wanted) - len(todo)} built already")
        failed = []
        for result in _build(shop, recipe, todo, jobs):
            _report(result)
            write_index(shop)
            if result.problem is not None or result.record is None or not result.record.accepted:
                failed.append(result.name)
        write_index(shop)
        text = zoo_table(shop)
        if table is not None:
            write_table(table, text)
        if output_format is Format.JSON:
            print_json({"zoo": shop.recipe.name, "output": str(output), "failed": failed, "table": text.splitlines()})
        else:
            Console(soft_wrap=True).print(text, highlight=False, markup=False)
    missing = [name for name in unbuilt(shop) if name in wanted]
    return 2 if failed or missing else 0


def _build(shop: Workshop, recipe: Path, names: list[str], jobs: int) -> Iterator[JobResult]:
    from core.zoo.schedule import build_in_order, build_in_parallel

    if jobs > 1:
        threads = max(1, usable_cores() // jobs)
        yield from build_in_parallel(shop, names, recipe, jobs=jobs, threads=threads)
        return
    for name in names:
        with ConsoleRun(Console(stderr=True)) as run:
            yield from build_in_order(shop, [name], lambda _: run)


def _report(result: JobResult) -> None:
    when = time.strftime("%H:%M:%S")
    if result.problem is not None:
        _say(f"[dim]{when}[/] [red]{result.name}[/] not built: {escape(result.problem.sentence())}")
        return
    assert result.record is not None
    record = result.record
    acc = record.evaluation["acc"]["percent"]
    colour = "green" if record.accepted else "yellow"
    asr = record.evaluation["asr"]
    rates = f"ACC {acc:.1f} %" + ("" if asr is None else f", ASR {asr['percent']:.1f} %")
    failure = "" if record.reason is None else f"; the attack failed: {escape(record.reason)}"
    _say(f"[dim]{when}[/] [{colour}]{record.name}[/] {rates}{failure} ({result.seconds:.0f} s)")


def _chosen(shop: Workshop, only: list[str] | None) -> set[str]:
    known = [entry.name for entry in shop.recipe.encoders]
    unknown = [name for name in only or [] if name not in known]
    if unknown:
        raise UsageError(
            "unknown_encoder",
            field="only",
            found=f"'{unknown[0]}'",
            expected=f"one of {', '.join(known)}",
            action="Use a name of the recipe.",
        )
    return set(only or known)


def _say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, soft_wrap=True)
