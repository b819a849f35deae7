"""``methods``: what this version can do, with every parameter, its range and its default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from core.cli.answer import Format, print_json


def methods(
    output_format: Annotated[Format, typer.Option("--format", help="What standard output carries.")] = Format.TABLE,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
) -> int:
    """List the kinds of audit, their methods, presets and parameters."""
    from core.catalog import KINDS  # torch takes seconds to import, and --help must not
    from core.contract import methods_document

    if output_format is Format.JSON:
        print_json(methods_document())
        return 0
    console = Console()
    shown: set[tuple[str, str]] = set()
    for kind in KINDS.values():
        console.print(f"[bold]{escape(kind.key)}[/]  {escape(kind.description)}", soft_wrap=True)
        for section, rows in kind.sections.items():
            for method in rows:
                presets = ", ".join(method.presets)
                console.print(f"  {section}.method={method.key}  [dim]presets: {presets}[/]", soft_wrap=True)
                if (section, method.key) in shown:
                    continue
                shown.add((section, method.key))
                console.print(f"  {escape(method.description)}", style="dim", soft_wrap=True)
                console.print(_parameters(section, method.config.model_json_schema()["properties"]))
    return 0


def _parameters(section: str, properties: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2), show_header=True, header_style="dim")
    for heading in ("--set", "default", "range", "meaning"):
        table.add_column(heading, no_wrap=heading in ("--set", "default"))
    for name, schema in properties.items():
        table.add_row(
            f"{section}.{name}", str(schema.get("default", "")), _range(schema), escape(schema.get("description", ""))
        )
    return table


def _range(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    signs = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
    return " ".join(f"{sign} {schema[key]:g}" for key, sign in signs if key in schema)
