"""``attack poison`` from words to files."""

import json

import pytest
import typer

from core.attacks.poison_truth import read_truth
from core.cli.attack_poison_command import poison
from core.errors import UsageError
from tests.unit.attacks.class_folders import labelled_files, write_zip


@pytest.fixture
def run(tmp_path):
    source = write_zip(tmp_path / "clean.zip", labelled_files())
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("poison")(poison)
    app.callback()(lambda: None)

    def command(*words):
        return app(["poison", str(source), "--output", str(tmp_path / "out.zip"), *words], standalone_mode=False)

    return command


def test_json_says_what_was_written(run, tmp_path, capsys):
    words = "--method noise --preset strong --target owl --target cat --set poison_rate=0.3 --seed 7 --format json"
    assert run(*words.split()) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["poisoned"] == 6 and answer["images"] == 40 and answer["added"] == 0 and answer["classes"] == 4
    assert [row["class"] for row in answer["targets"]] == ["owl", "cat"]
    assert [row["trigger"] for row in answer["targets"]] == [
        {"kind": "noise", "grey_levels": 16.0, "seed": seed} for seed in (0, 1)
    ]
    assert answer["output"] == str(tmp_path / "out.zip") and answer["truth"] == str(tmp_path / "truth.json")
    truth = read_truth(tmp_path / "truth.json")
    assert truth.seed == 7 and truth.config == {"poison_rate": 0.3} and len(truth.poisoned) == 6


def test_triggers_are_paired_with_targets_in_their_order(run, tmp_path, capsys):
    words = "--method ssl-backdoor --target owl --trigger white-patch:side=4 --target cat --trigger noise-patch:side=5"
    assert run(*words.split()) == 0
    shown = capsys.readouterr()
    assert "white-patch" in shown.out and "truth.json" in shown.err
    sides = {image.target: image.box.height for image in read_truth(tmp_path / "truth.json").poisoned}
    assert sides == {"owl": 4, "cat": 5}


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ("--method magic --target owl", "corrupt-encoder"),
        ("--method ctrl --target owl --preset magic", "default, paper"),
        ("--method ssl-backdoor --target owl --target cat --trigger white-patch", "one trigger for each target"),
        ("--method ssl-backdoor --target owl --set poison_rate", "KEY=VALUE"),
        ("--method ssl-backdoor --target owl --set poison_rate=2", "poison_rate"),
        ("--method ssl-backdoor --target owl --trigger white-patch:side=99", "32x32"),
    ],
)
def test_wrong_words_are_a_usage_error(run, words, word, tmp_path):
    with pytest.raises(UsageError, match=word):
        run(*words.split())
    assert [path.name for path in tmp_path.iterdir()] == ["clean.zip"]
