"""The command of the tables: what it is asked for and what it says to what it is not."""

import pytest

from tests.benchmarks.tables.__main__ import main
from tests.unit.benchmarks.small_zoo import write_sets, write_zoo


@pytest.fixture
def render(tmp_path):
    zoo, data = write_zoo(tmp_path / "zoo"), write_sets(tmp_path / "data")

    def run(*more):
        shared = ["--zoo", str(zoo), "--data", str(data), "--output", str(tmp_path / "out")]
        code = main([*shared, "--only", "detection", "--seeds", "1", "--render-only", *more])
        page = tmp_path / "out/tables/detection.md"
        return code, page.read_text() if page.exists() else ""

    return run


def test_without_a_choice_the_whole_zoo_has_rows(render):
    code, page = render()
    assert code == 0 and "| clean |" in page and "| planted |" in page


def test_chosen_encoders_have_rows_and_others_do_not(render):
    code, page = render("--encoders", "planted")
    assert code == 0 and "| planted |" in page and "| clean |" not in page


def test_an_unknown_encoder_is_answered_with_the_known_ones(render, capsys):
    code, page = render("--encoders", "planted", "amber")
    assert (code, page) == (2, "")
    assert "No amber in the zoo; it has clean, planted." in capsys.readouterr().err
