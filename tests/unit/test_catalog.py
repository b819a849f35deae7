"""Parameters are checked against the catalogue, and the published schema says the same as the code."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from core.catalog import KINDS, LARGEST_SEED, find_kind, read_parameters
from core.contract import parameters_schema
from core.errors import UsageError

ACCEPTED: list[dict[str, Any]] = [
    {},
    {"preset": "paper"},
    {"preset": "quick"},
    {"seed": LARGEST_SEED},
    {"seed": None},
    {"detection": {"method": "decree"}},
    {"detection": {"method": "ssldefender", "preset": "paper", "steps": 7}},
    {"detection": {"steps": 7}},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"surprise": 1}, "parameters.surprise"),
    ({"seed": -1}, "parameters.seed"),
    ({"seed": LARGEST_SEED + 1}, "parameters.seed"),
    ({"detection": {"method": "magic"}}, "parameters.detection.method"),
    ({"detection": {"method": ["decree"]}}, "parameters.detection.method"),
    ({"detection": {"preset": "magic"}}, "parameters.detection.preset"),
    ({"detection": {"stepz": 1}}, "parameters.detection.stepz"),
    ({"detection": {"steps": 0}}, "parameters.detection.steps"),
    ({"detection": {"steps": "many"}}, "parameters.detection.steps"),
    ({"detection": []}, "parameters.detection"),
]


OF_ENCODERS = [key for key, kind in KINDS.items() if "detection" in kind.sections]


@pytest.mark.parametrize("kind", OF_ENCODERS)
@pytest.mark.parametrize("values", ACCEPTED)
def test_code_and_schema_accept_the_same(kind: str, values: dict[str, Any]) -> None:
    read_parameters(KINDS[kind], values)
    jsonschema.Draft202012Validator(parameters_schema(KINDS[kind])).validate(values)


@pytest.mark.parametrize("kind", OF_ENCODERS)
@pytest.mark.parametrize(("values", "field"), REFUSED)
def test_code_and_schema_refuse_the_same(kind: str, values: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_parameters(KINDS[kind], values)
    assert caught.value.problem.field == field
    assert not jsonschema.Draft202012Validator(parameters_schema(KINDS[kind])).is_valid(values)


@pytest.mark.parametrize("preset", ["default", "quick", "paper"])
def test_a_budget_of_cleansing_is_a_preset_of_search_and_of_threat_model(preset: str) -> None:
    values = {"preset": preset, "archive": True, "threat_model": {"epochs": 3, "method": "moco-v2"}}
    settings = read_parameters(KINDS["cleanse"], values)
    jsonschema.Draft202012Validator(parameters_schema(KINDS["cleanse"])).validate(values)
    assert {choice.preset for choice in settings.chosen.values()} == {preset}
    assert settings.chosen["threat_model"].config.model_dump()["epochs"] == 3
    assert settings.values == {"archive": True}


@pytest.mark.parametrize("values", [{"detection": {}}, {"archive": "yes, please"}, {"threat_model": {"epochs": 0}}])
def test_cleanse_refuses_what_it_has_not(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        read_parameters(KINDS["cleanse"], values)
    assert not jsonschema.Draft202012Validator(parameters_schema(KINDS["cleanse"])).is_valid(values)


def test_detect_takes_no_purification() -> None:
    with pytest.raises(UsageError, match=r"parameters\.purification"):
        read_parameters(KINDS["detect"], {"purification": {}})


def test_values_set_by_hand_go_over_the_preset() -> None:
    chosen = read_parameters(KINDS["purify"], {"preset": "paper", "purification": {"steps": 7}}).chosen
    purification = chosen["purification"]
    paper = {**purification.method.presets["paper"], "steps": 7}
    assert {name: getattr(purification.config, name) for name in paper} == paper
    assert purification.overrides == {"steps": 7}


def test_a_step_without_the_common_preset_takes_its_default() -> None:
    chosen = read_parameters(KINDS["purify"], {"preset": "thorough"}).chosen
    assert (chosen["detection"].preset, chosen["purification"].preset) == ("thorough", "default")


def test_a_preset_that_no_step_has_is_refused() -> None:
    with pytest.raises(UsageError, match="quick"):
        read_parameters(KINDS["purify"], {"preset": "qick"})


def test_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="detect, purify"):
        find_kind("bless")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_preset_of_every_method_is_valid(kind: Any) -> None:
    for section, methods in kind.sections.items():
        for method in methods:
            for preset in method.presets:
                choice = read_parameters(kind, {section: {"method": method.key, "preset": preset}}).chosen[section]
                assert choice.method is method
                assert sum(choice.stages().values()) == pytest.approx(1)
