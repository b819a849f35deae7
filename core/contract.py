"""Writes what the service knows of ``core``: ``methods.json`` and ``report.schema.json``.

    python -m core.contract [--check] FOLDER

With ``--check`` nothing is written; the exit status is 1 if a file differs from what would be.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

from core.catalog import KINDS, AuditKind
from core.encoders.card import EncoderCard
from core.methods import Method
from core.report.model import Report

METHODS_SCHEMA = "encoder-audit/methods/1"


def contract_files() -> dict[str, str]:
    """File name -> its exact content."""
    return {"methods.json": _text(methods_document()), "report.schema.json": _text(report_schema())}


def methods_document() -> dict[str, Any]:
    """All kinds of audit with the JSON Schema of their parameters and the methods of each step; that of the card."""
    return {"schema": METHODS_SCHEMA, "kinds": [_kind(kind) for kind in KINDS.values()], "card": card_schema()}


def card_schema() -> dict[str, Any]:
    """The JSON Schema of ``encoder-card/1``."""
    schema = EncoderCard.model_json_schema(by_alias=True, mode="validation")
    required = schema.pop("required")
    described = {name: {"description": schema["properties"][name].get("title", name)} for name in required}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        # Beside a folder's own config.json, or to name a copy, a card may say one of these alone.
        "if": {
            "anyOf": [{"required": [name]} for name in ("pooling", "projection", "copy")],
            "not": {"required": ["architecture"]},
        },
        "else": {"required": required, "properties": described},
    }


def report_schema() -> dict[str, Any]:
    """The JSON Schema of ``encoder-audit/report/1``."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Report.model_json_schema(by_alias=True, mode="serialization"),
    }


def parameters_schema(kind: AuditKind) -> dict[str, Any]:
    """The JSON Schema of a kind's parameters: each step's fields are those of the method that is chosen for it, and so
    are the presets of the whole."""
    schema = kind.parameters.model_json_schema()
    definitions: dict[str, Any] = {}
    for name, methods in kind.sections.items():
        described = schema["properties"][name]
        schema["properties"][name] = {**_section(methods, definitions), "description": described["description"]}
    if definitions:
        schema["$defs"] = definitions
    schema["allOf"] = _preset_rules(kind)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _kind(kind: AuditKind) -> dict[str, Any]:
    return {
        "key": kind.key,
        "title": kind.title,
        "description": kind.description,
        "inputs": list(kind.inputs),
        "optional_inputs": list(kind.optional_inputs),
        "yields_encoder": kind.yields_encoder,
        "methods": {name: [_method(method) for method in methods] for name, methods in kind.sections.items()},
        "parameters": parameters_schema(kind),
    }


def _method(method: Method[Any]) -> dict[str, Any]:
    return {
        "key": method.key,
        "title": method.title,
        "description": method.description,
        "presets": {name: dict(values) for name, values in method.presets.items()},
    }


def _section(methods: tuple[Method[Any], ...], definitions: dict[str, Any]) -> dict[str, Any]:
    default = methods[0].key
    rules = []
    for method in methods:
        named = {"properties": {"method": {"const": method.key}}}
        # Without `required` the condition also holds where no method is named: that is the default's case.
        condition = named if method.key == default else {**named, "required": ["method"]}
        rules.append({"if": condition, "then": _config(method, definitions)})
    return {
        "type": "object",
        "default": {},
        "properties": {
            "method": {
                "enum": [method.key for method in methods],
                "default": default,
                "description": "; ".join(f"{method.key}: {method.title}" for method in methods),
            }
        },
        "allOf": rules,
    }


def _preset_rules(kind: AuditKind) -> list[dict[str, Any]]:
    """Which presets there are, for every choice of methods: those that one of the chosen ones has."""
    return [
        {
            "if": {"allOf": [_chosen(kind, *choice) for choice in zip(kind.sections, methods, strict=True)]},
            "then": {
                "properties": {"preset": {"enum": list({name: None for each in methods for name in each.presets})}}
            },
        }
        for methods in product(*kind.sections.values())
    ]


def _presets_of(methods: tuple[Method[Any], ...]) -> list[str]:
    return list({name: None for method in methods for name in method.presets})


def _chosen(kind: AuditKind, section: str, method: Method[Any]) -> dict[str, Any]:
    """The condition that ``method`` does the step ``section``; its default does it where none is named."""
    named: dict[str, Any] = {"properties": {"method": {"const": method.key}}}
    if method is kind.sections[section][0]:
        return {"properties": {section: named}}
    return {"properties": {section: {**named, "required": ["method"]}}, "required": [section]}


def _config(method: Method[Any], definitions: dict[str, Any]) -> dict[str, Any]:
    schema = method.config.model_json_schema()
    definitions.update(schema.pop("$defs", {}))
    schema["properties"] = {
        "method": {"const": method.key},
        "preset": {
            "enum": list(method.presets),
            "description": "Named set of values; the request's preset where absent.",
        },
        **schema["properties"],
    }
    return schema


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    """Write or check; see the module's text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail on a difference")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    stale = []
    for name, content in contract_files().items():
        path = arguments.folder / name
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        stale.append(name)
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
    if stale and arguments.check:
        sys.stderr.write(f"Out of date: {', '.join(stale)}. Run 'make contract' and commit the result.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
