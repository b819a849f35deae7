"""How options become parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.cli.request_options import (
    build_parameters,
    check_output,
    check_output_folder,
    check_report_folder,
    read_card,
)
from core.errors import UsageError


def test_keys_are_paths_and_values_json_where_they_can_be() -> None:
    settings = ["steps=3", "seed=7", "purification.distance=paired_cosine", "detection.thresholds=[0.5, 1]", "x=true"]
    assert build_parameters(None, None, settings) == {
        "seed": 7,
        "detection": {"steps": 3, "thresholds": [0.5, 1], "x": True},
        "purification": {"distance": "paired_cosine"},
    }


def test_nothing_typed_is_nothing_set() -> None:
    assert build_parameters(None, None, []) == {}


def test_a_value_may_hold_an_equals_sign() -> None:
    assert build_parameters(None, None, ["name=a=b"]) == {"detection": {"name": "a=b"}}


@pytest.mark.parametrize("setting", ["steps", "=3", "a..b=1", ".=1", "seed.x=1"])
def test_a_setting_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(UsageError, match="KEY=VALUE"):
        build_parameters(None, None, ["seed=1", setting])


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 100_000])
def test_a_card_must_be_a_json_object(text: str, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="card"):
        read_card(path)


def test_no_card_is_no_card() -> None:
    assert read_card(None) is None


def test_folders_of_results_are_made_before_the_work(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b" / "encoder.pt", tmp_path / "encoder.pt", force=False)
    check_report_folder(tmp_path / "c" / "d" / "report", force=False)
    check_output_folder(tmp_path / "e" / "f" / "lists", tmp_path / "set.zip", results=("keep.txt",), force=False)
    assert all((tmp_path / folder).is_dir() for folder in ("a/b", "c/d", "e/f"))


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "deeper"
    with pytest.raises(UsageError, match="none can be made"):
        check_output(below / "encoder.pt", tmp_path / "encoder.pt", force=False)
    with pytest.raises(UsageError, match="none can be made"):
        check_report_folder(below / "report", force=False)
    with pytest.raises(UsageError, match="none can be made"):
        check_output_folder(below / "lists", tmp_path / "set.zip", results=(), force=False)
