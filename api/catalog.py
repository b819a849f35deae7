"""What can be asked for, read from the generated ``contract/methods.json``; a new kind of audit needs no code here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from api.errors import Fault, RequestProblem, pointer_to

INPUTS = ("encoder", "images")
"""The files an audit can be about, by the name of their part in a request."""

_ACTIONS = {
    "parameters": "GET /methods lists the parameters and their ranges.",
    "card": "GET /methods has the schema of a card under 'card'; docs/encoder-card.md has examples.",
}


class Kind:
    """One kind of audit: which inputs it requires and which it can do without, whether it yields an encoder, how its
    parameters must look."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.key: str = row["key"]
        self.inputs: tuple[str, ...] = tuple(row["inputs"])
        self.optional_inputs: tuple[str, ...] = tuple(row["optional_inputs"])
        self.yields_encoder: bool = row["yields_encoder"]
        self._parameters = Draft202012Validator(row["parameters"])

    def check_parameters(self, parameters: Any) -> Iterator[Fault]:
        """What is wrong with ``parameters``."""
        return _faults(self._parameters, parameters, "parameters")


class Catalog:
    """The generated contract. ``document`` is what ``GET /methods`` answers."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.kinds = {row["key"]: Kind(row) for row in document["kinds"]}

    @cached_property
    def _card(self) -> Draft202012Validator:
        return Draft202012Validator(self.document.get("card") or {"type": "object"})

    def find_kind(self, key: str) -> Kind:
        """The kind called ``key``.

        Raises:
            RequestProblem: 422, naming those that exist.
        """
        if key not in self.kinds:
            detail = f"There is no kind of audit called {json.dumps(key)}."
            known = "one of " + ", ".join(self.kinds)
            fault = Fault(pointer="/kind", detail=detail, expected=known, action="GET /methods describes them.")
            raise RequestProblem(422, "unknown_kind", detail, faults=[fault])
        return self.kinds[key]

    def check_card(self, card: Any) -> Iterator[Fault]:
        """What is wrong with an encoder card."""
        return _faults(self._card, card, "card")


def load_catalog() -> Catalog:
    """The catalogue this package was built with."""
    text = resources.files("api").joinpath("contract", "methods.json").read_text(encoding="utf-8")
    return Catalog(json.loads(text))


def _faults(validator: Draft202012Validator, value: Any, name: str) -> Iterator[Fault]:
    for error in sorted(validator.iter_errors(value), key=lambda each: [str(part) for part in each.absolute_path]):
        cause = _deepest(error)
        schema = cause.schema if isinstance(cause.schema, Mapping) else {}
        missing = _missing_field(cause, schema)
        yield Fault(
            pointer=pointer_to(name, *cause.absolute_path, *missing),
            detail=_short(cause.message),
            expected=_expectation(schema["properties"][missing[0]] if missing else schema),
            action=_ACTIONS[name],
        )


def _missing_field(error: ValidationError, schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The required field that is not there: the fault is where it should stand. jsonschema names it in words only."""
    if error.validator != "required":
        return ()
    return tuple(name for name in schema.get("properties", {}) if error.message.startswith(f"{name!r} "))


def _expectation(schema: Mapping[str, Any]) -> str | None:
    """A schema in words: type, range, meaning; None for one that says nothing of the kind."""
    words = [str(schema["type"])] if isinstance(schema.get("type"), str) else []
    if "enum" in schema:
        words.append("one of " + ", ".join(map(str, schema["enum"])))
    bounds = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
    words += [f"{sign} {schema[name]}" for name, sign in bounds if name in schema]
    if schema.get("additionalProperties") is False:
        words.append("with no other fields than " + ", ".join(schema.get("properties", {})))
    return _short(" ".join(words)) or None


def _deepest(error: ValidationError) -> ValidationError:
    """Of an ``anyOf`` the branch that came furthest says more than "not valid under any"."""
    while error.context:
        error = max(error.context, key=lambda each: len(each.absolute_path))
    return error


def _short(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
