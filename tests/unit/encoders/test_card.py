from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.encoders.card import SAMPLE_CARD, parse_card
from core.errors import UnsupportedInput, UsageError

ZOO_CARD: dict[str, Any] = {
    "format": "encoder-card/1",
    "architecture": "torchvision/resnet18",
    "overrides": {"conv1": {"kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1]}},
    "input_size": 32,
    "mean": [0.4914, 0.4822, 0.4465],
    "std": [0.2023, 0.1994, 0.2010],
    "feature_dim": 512,
}


def test_a_card_survives_json() -> None:
    card = parse_card(ZOO_CARD)
    assert card.image_size == (32, 32)
    assert parse_card(card.to_json()) == card
    assert card.to_json() == ZOO_CARD


def test_height_comes_before_width() -> None:
    assert parse_card({**ZOO_CARD, "input_size": [48, 64]}).image_size == (48, 64)


def test_the_sample_is_a_card() -> None:
    assert parse_card(SAMPLE_CARD).overrides["maxpool"] == "identity"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"mean": [123.7, 116.3, 103.5]}, "card.mean"),
        ({"mean": [0.5, 0.5]}, "card.mean"),
        ({"mean": [0.5, 0.5, float("nan")]}, "card.mean"),
        ({"std": [0.2, 0.2, 0.0]}, "card.std"),
        ({"std": "0.2"}, "card.std"),
        ({"input_size": 4}, "card.input_size"),
        ({"input_size": 100_000}, "card.input_size"),
        ({"input_size": [32, 32, 3]}, "card.input_size"),
        ({"input_size": True}, "card.input_size"),
        ({"architecture": "resnet18"}, "card.architecture"),
        ({"architecture": "torchvision/../../etc"}, "card.architecture"),
        ({"overrides": {"conv1": {"groups": 64}}}, "card.overrides.conv1"),
        ({"overrides": {"conv1": {"kernel_size": 10**6}}}, "card.overrides.conv1"),
        ({"overrides": {"conv1": {"stride": 0}}}, "card.overrides.conv1"),
        ({"overrides": {"conv1": "delete"}}, "card.overrides.conv1"),
        ({"overrides": {"__class__.x y": "identity"}}, "card"),
        ({"overrides": {f"layer{i}": "identity" for i in range(100)}}, "card"),
        ({"feature_dim": 0}, "card.feature_dim"),
        ({"format": "encoder-card/9"}, "card.format"),
        ({"maen": [0, 0, 0]}, "card.maen"),
    ],
)
def test_a_field_that_does_not_fit_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_card({**ZOO_CARD, **change})
    assert caught.value.problem.code == "invalid_card"
    assert caught.value.problem.field.startswith(field)


@pytest.mark.parametrize("absent", ["architecture", "input_size", "mean", "std"])
def test_an_absent_field_is_named(absent: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_card({key: value for key, value in ZOO_CARD.items() if key != absent})
    assert caught.value.problem.field == f"card.{absent}"
    assert caught.value.problem.found == "nothing"


def test_a_card_inside_a_file_is_the_files_fault() -> None:
    with pytest.raises(UnsupportedInput) as caught:
        parse_card({"format": "encoder-card/1"}, "encoder.card", UnsupportedInput)
    assert caught.value.exit_code == 3
    assert caught.value.problem.field == "encoder.card.architecture"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([*ZOO_CARD, "other"]), JSON)
def test_whatever_a_field_holds_the_answer_is_a_card_or_a_problem(field: str, value: object) -> None:
    problem, card = None, None
    try:
        card = parse_card({**ZOO_CARD, field: value})
    except UsageError as error:
        problem = error.problem
    if problem is not None:
        assert problem.field.startswith("card")
        assert problem.sentence().isprintable()
    else:
        assert card is not None
        assert parse_card(card.to_json()) == card
