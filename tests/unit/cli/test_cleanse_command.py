"""``cleanse`` on the command line: its answers, its folder, and that it goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import core.audit
from core.audit import AuditOutcome, AuditRequest
from core.cli.app import run
from core.errors import Cancelled
from core.report.artifacts import Artifact
from core.run import Run
from core.types import Verdict
from tests.unit.report.test_cleansing_page import found, reported

Answer = Callable[[AuditRequest, Path, Run], AuditOutcome]
CLEANSE = ["cleanse", "set.zip", "--output", "out", "--format", "json"]
FILES = (
    *("report.json", "report.html", "candidates.png", "keep.csv", "removed.csv", "candidates.csv"),
    *("duplicates.csv", "unusable.csv", "candidate-01.png"),
)


def ending(verdict: Verdict = Verdict.POISONED, *more: str) -> Answer:
    """An audit with this verdict, whose files hold their own names."""

    def audit(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        artifacts = tuple(Artifact(name, output / name, "text/plain") for name in (*FILES, *more))
        for artifact in artifacts:
            artifact.path.write_text(artifact.name)
        return AuditOutcome(verdict, None, None, reported(found(verdict)).to_json(), artifacts)

    return audit


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set.zip").write_text("images")
    return tmp_path


@pytest.fixture
def audit_ends(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    return lambda answer: monkeypatch.setattr(core.audit, "run_audit", answer)


@pytest.mark.parametrize(("verdict", "code"), [(Verdict.CLEAN, 0), (Verdict.POISONED, 1), (Verdict.INCONCLUSIVE, 5)])
def test_the_exit_status_is_the_verdict(
    verdict: Verdict,
    code: int,
    workplace: Path,
    audit_ends: Callable[[Answer], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    audit_ends(ending(verdict))
    assert run(CLEANSE) == code
    document = json.loads(capsys.readouterr().out)
    assert (document["verdict"], document["removed"], document["kept"]) == (verdict.value, 3, 57)
    assert [row["rank"] for row in document["candidate_triggers"]] == [1, 2, 3]
    assert {"name", "top", "left", "size"} <= document["candidate_triggers"][0].keys()
    assert (document["output"], document["archive"], document["report"]) == ("out", None, None)


def test_lists_and_pictures_go_to_the_folder_and_the_report_to_its_own(
    workplace: Path, audit_ends: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    audit_ends(ending(Verdict.POISONED, "cleaned.zip", "threat-model.safetensors"))
    assert run([*CLEANSE, "--report", "report", "--archive"]) == 1
    assert json.loads(capsys.readouterr().out)["archive"] == "out/cleaned.zip"
    lists = {"keep.csv", "removed.csv", "candidates.csv", "duplicates.csv", "unusable.csv"}
    assert {path.name for path in (workplace / "out").iterdir()} == {
        *lists,
        *("candidates", "cleaned.zip", "threat-model.safetensors"),
    }
    assert [path.name for path in (workplace / "out/candidates").iterdir()] == ["candidate-01.png"]
    assert {path.name for path in (workplace / "report").iterdir()} == {"report.json", "report.html", "candidates.png"}
    assert {path.name for path in workplace.iterdir()} == {"set.zip", "out", "report"}


def test_force_leaves_nothing_of_an_earlier_audit(workplace: Path, audit_ends: Callable[[Answer], None]) -> None:
    audit_ends(ending(Verdict.POISONED, "cleaned.zip", "threat-model.safetensors"))
    run([*CLEANSE, "--archive"])
    (workplace / "out/notes.txt").write_text("mine")
    audit_ends(ending())
    assert run(CLEANSE) == 4
    assert run([*CLEANSE, "--force"]) == 1
    left = {path.name for path in (workplace / "out").iterdir()}
    assert "notes.txt" in left and not {"cleaned.zip", "threat-model.safetensors"} & left


@pytest.mark.parametrize(("budget", "preset"), [("quick", "quick"), ("standard", "default"), ("paper", "paper")])
def test_a_budget_is_a_preset(budget: str, preset: str, workplace: Path, audit_ends: Callable[[Answer], None]) -> None:
    seen: list[AuditRequest] = []

    def audit(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        seen.append(request)
        return ending()(request, output, run)

    audit_ends(audit)
    settings = ["--method", "patch_search", "--set", "clusters=9", "--set", "threat_model.epochs=2", "--archive"]
    run([*CLEANSE, "--budget", budget, "--seed", "4", *settings])
    (request,) = seen
    assert request.parameters == {
        "preset": preset,
        "archive": True,
        "cleansing": {"method": "patch_search", "clusters": 9},
        "threat_model": {"epochs": 2},
    }
    assert (request.kind, request.encoder, request.seed) == ("cleanse", None, 4)


@pytest.mark.parametrize(
    "arguments",
    [
        ["cleanse", "set.zip"],
        [*CLEANSE, "--budget", "quick", "--preset", "paper"],
        [*CLEANSE, "--budget", "huge"],
        ["cleanse", "set.zip", "--output", "set.zip"],
        ["cleanse", "set.zip", "--output", "set.zip/out"],
        ["cleanse", "folder", "--output", "folder"],
        ["cleanse", "folder", "--output", "folder/out"],
    ],
)
def test_wrong_usage(arguments: list[str], workplace: Path, audit_ends: Callable[[Answer], None]) -> None:
    (workplace / "folder").mkdir()
    audit_ends(ending())
    assert run(arguments) == 4


def test_a_person_reads_the_same(
    workplace: Path, audit_ends: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    audit_ends(ending())
    assert run(CLEANSE[:-2]) == 1
    written = capsys.readouterr()
    assert "009.png" in written.out and "group 1" in written.out
    assert "POISONED" in written.err and "3 images removed, 57 kept" in written.err and "spectral" in written.err


def test_an_interrupted_command_goes_on(
    workplace: Path,
    audit_ends: Callable[[Answer], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Saved beside the output under a name of its own, and gone when the result is there."""
    taken: list[int] = []

    class Count:
        total = 0

        def state_dict(self) -> dict[str, int]:
            return {"total": self.total}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.total = state["total"]

    def audit(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
        for step in run.steps("search", 3, state=Count()):
            taken.append(step)
        if len(taken) == 3:
            raise Cancelled
        return ending()(request, output, run)

    audit_ends(audit)
    assert run(CLEANSE) == 130
    assert len(list(workplace.glob(".out.*.checkpoint"))) == 1 and not (workplace / "out").exists()
    assert run([*CLEANSE, "--seed", "1"]) == 1  # another seed is another search
    assert taken == [0, 1, 2, 0, 1, 2]
    assert run([*CLEANSE, "--force"]) == 1
    assert taken == [0, 1, 2, 0, 1, 2] and "Going on from step 3 of 'search'" in capsys.readouterr().err
    assert list(workplace.glob(".out.*.checkpoint")) == []
