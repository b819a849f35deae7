"""``methods``: what this version can do, with every parameter, its range and its default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

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
                for line in _parameters(section, method.config.model_json_schema()["properties"]):
                    console.print(line, soft_wrap=True)
    return 0


def _parameters(section: str, properties: Mapping[str, Mapping[str, Any]]) -> Iterator[Text]:
    for name, schema in properties.items():
        default = json.dumps(schema.get("default"))
        allowed = _range(schema)
        yield Text.assemble(
            ("    --set ", "dim"),
            f"{section}.{name}={default}",
            (f"  {allowed}" if allowed else "", "cyan"),
            (f"  {schema.get('description', '')}", "dim"),
        )


def _range(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    signs = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
    return " ".join(f"{sign} {schema[key]:g}" for key, sign in signs if key in schema)
