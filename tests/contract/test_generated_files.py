"""What lies in ``api/contract`` is what ``core`` would write today."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from core.catalog import KINDS, AuditKind, read_parameters
from core.contract import contract_files, methods_document
from core.encoders.card import SAMPLE_CARD
from core.errors import UsageError

CONTRACT = Path(__file__).parents[2] / "api" / "contract"


@pytest.mark.parametrize("name", ["methods.json", "report.schema.json"])
def test_generated_file_is_up_to_date(name: str) -> None:
    assert (CONTRACT / name).read_text(encoding="utf-8") == contract_files()[name], "run 'make contract'"


def test_parameter_schemas_are_schemas_and_describe_every_parameter() -> None:
    for kind in methods_document()["kinds"]:
        schema = kind["parameters"]
        jsonschema.Draft202012Validator.check_schema(schema)
        for section in kind["methods"]:
            for rule in schema["properties"][section]["allOf"]:
                named = {key: value for key, value in rule["then"]["properties"].items() if key != "method"}
                assert all(value.get("description") for value in named.values())


def test_the_schemas_take_what_core_takes_and_refuse_what_it_refuses() -> None:
    document = methods_document()
    card = jsonschema.Draft202012Validator(document["card"])
    assert card.is_valid(dict(SAMPLE_CARD))
    assert not card.is_valid({"format": "encoder-card/1"})
    assert not card.is_valid({**SAMPLE_CARD, "std": [58, 57, 57]})
    assert not card.is_valid({**SAMPLE_CARD, "overrides": {"layer 1": "identity"}})
    for row in document["kinds"]:
        kind, schema = KINDS[row["key"]], jsonschema.Draft202012Validator(row["parameters"])
        presets = {preset for methods in row["methods"].values() for method in methods for preset in method["presets"]}
        for choice in product(*row["methods"].values()):
            for preset in (*presets, "fast"):
                chosen = dict(zip(row["methods"], ({"method": method["key"]} for method in choice), strict=True))
                parameters = {"preset": preset, **chosen}
                assert schema.is_valid(parameters) == _core_takes(kind, parameters), parameters
        for preset in (*presets, "fast"):
            assert schema.is_valid({"preset": preset}) == _core_takes(kind, {"preset": preset})


def _core_takes(kind: AuditKind, parameters: dict[str, Any]) -> bool:
    try:
        read_parameters(kind, parameters)
    except UsageError:
        return False
    return True
