"""Numbers as text, tables between their markers, and every table of the bench with and without results."""

import re
from pathlib import Path

import pytest

from tests.benchmarks.tables.contents.note import note
from tests.benchmarks.tables.contents.readings import acc_and_asr, reading
from tests.benchmarks.tables.contents.registry import TABLES
from tests.benchmarks.tables.contents.table import Results
from tests.benchmarks.tables.markdown import MarkerMissing, replace_between_markers, table
from tests.benchmarks.tables.results import ResultStore
from tests.benchmarks.tables.schedule import with_needs
from tests.benchmarks.tables.summary import auroc, text, verdicts
from tests.benchmarks.tables.work import Workplace
from tests.unit.benchmarks.small_zoo import pretend, small_bench

RESULTS = Path(__file__).parents[3] / "docs" / "results.md"


def document(acc, asr, **others):
    rates = {"acc": acc, "asr": asr, "base": 1.0, "triggered_acc": 1.0}
    return {"problem": None, "measured": {"cifar10": {"evaluations": [rates]}}, **others}


def test_numbers_over_seeds():
    assert text([1.0, 2.0, 3.0]) == "2.0 ± 1.0"
    assert text([1.0, None, 3.0]) == "2.0 ± 1.4 (2 of 3)"
    assert text([5.0]) == "5.0"
    assert text([None, None]) == "not run"


def test_auroc_is_of_encoders_with_a_score():
    assert auroc([(0.9, True), (0.8, True), (0.1, False)]) == 1
    assert auroc([(0.9, True), (None, True), (0.95, False)]) == 0
    assert auroc([(0.9, True), (0.8, True), (None, False)]) is None


def test_inconclusive_is_counted_apart():
    said = [{"problem": None, "verdict": verdict} for verdict in ("backdoored", "inconclusive", "clean")]
    assert verdicts([*said, None, {"problem": {"code": "x"}}]).text == "1 of 3 (1 inconclusive, 2 without a verdict)"
    assert verdicts([None]).text == "not run" and verdicts([]).text == ""


def test_missing_refused_and_untouched_are_said():
    assert acc_and_asr([document(50.0, 9.0), document(52.0, 7.0)], "cifar10") == "51.0 ± 1.4 / 8.0 ± 1.4"
    assert acc_and_asr([None], "cifar10") == "not run"
    assert acc_and_asr([{"problem": {"code": "no_convolutions"}}], "cifar10") == "refused: no_convolutions"
    left = document(50.0, 9.0, purified=False)
    assert acc_and_asr([left], "cifar10") == "50.0 / 9.0 (1 left as given)"
    assert acc_and_asr([left], "gtsrb") == "not run"


def test_of_several_backdoors_the_strongest_counts():
    both = document(50.0, 9.0)
    both["measured"]["cifar10"]["evaluations"].append({"acc": 50.0, "asr": 80.0, "base": 3.0, "triggered_acc": 1.0})
    assert reading(both, "cifar10", "asr") == 80.0 and reading(both, "cifar10", "base") == 3.0


def test_only_what_is_between_the_markers_is_replaced():
    before = "a\n<!-- results: x -->\nold\n<!-- /results: x -->\nb\n<!-- results: xy -->\nkept\n<!-- /results: xy -->\n"
    after = replace_between_markers(before, "x", "new \\1 line\n")
    assert after == before.replace("old", "new \\1 line")
    with pytest.raises(MarkerMissing, match="results: z"):
        replace_between_markers(before, "z", "")


def test_a_bar_does_not_break_a_table():
    assert table(["a", "b"], [["x|y", "1"]]).splitlines() == ["| a | b |", "| --- | ---: |", "| x\\|y | 1 |"]


def test_every_table_has_a_place_in_the_document():
    document = RESULTS.read_text()
    for each in TABLES:
        replace_between_markers(document, each.name, "")
    assert len({each.name for each in TABLES}) == len(TABLES)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return small_bench(tmp_path_factory.mktemp("bench"))


def test_without_results_no_number_of_ours_is_shown(bench, tmp_path):
    results = Results(ResultStore(tmp_path))
    for each in TABLES:
        body = each.render(bench, results)
        assert "Not run" in body or "Nothing to measure" in body
        assert "±" not in body.split("*The paper")[0]


def test_with_results_every_field_has_one(bench, tmp_path):
    place = Workplace(bench.library, ResultStore(tmp_path), "cpu", 1, "abc1234")
    place.store.prepare()
    cells = with_needs(cell for each in TABLES for cell in each.cells(bench))
    for cell in cells:
        place.store.write(cell, pretend(cell, place))
    results = Results(place.store)
    for each in TABLES:
        body = each.render(bench, results)
        assert "not run" not in body
        own = [line for line in body.split("*The paper")[0].splitlines() if line.startswith("|")]
        for block in re.split(r"\n\n", "\n".join(own)):
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) <= 3
    assert "abc1234" in note(cells, results) and "seed(s) 0, 1" in note(cells, results).lower()
