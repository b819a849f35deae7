"""What lies in ``api/contract`` is what ``core`` would write today."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from core.contract import contract_files, methods_document

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
