"""A cleansing from file to files: lists, pictures, the cleaned set, the report."""

from __future__ import annotations

import csv
import hashlib
import json
import zipfile
from pathlib import Path

import jsonschema
import pytest

from core.audit import AuditOutcome, AuditRequest, run_audit
from core.contract import report_schema
from core.encoders.load import load_encoder
from core.errors import AuditFailed, UnsupportedInput, UsageError
from core.report import cleansing_files
from core.run import QuietRun
from core.types import Verdict
from tests.unit.suspects import COUNT, request, suspect_zip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    suspect_zip(folder / "set.zip")
    (folder / "out").mkdir()
    return folder


@pytest.fixture(scope="module")
def outcome(folder: Path) -> AuditOutcome:
    return run_audit(request(folder / "set.zip", archive=True), folder / "out", QuietRun())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_image_is_in_one_of_the_lists(folder: Path, outcome: AuditOutcome) -> None:
    kept, removed = rows(folder / "out/keep.csv"), rows(folder / "out/removed.csv")
    with zipfile.ZipFile(folder / "set.zip") as archive:
        names = set(archive.namelist()) - {"class-0/broken.png"}
        digests = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}
    assert {row["name"] for row in kept} | {row["name"] for row in removed} == names
    assert len(kept) + len(removed) == len(names) == COUNT + 1
    assert all(row["digest"] == digests[row["name"]] for row in (*kept, *removed))
    cut = outcome.report["cleansing"]["distribution"]["cut"]
    assert all(float(row["classifier_score"]) <= cut for row in kept)
    scores = [float(row["classifier_score"]) for row in removed]
    assert scores == sorted(scores, reverse=True) and all(score > cut for score in scores)
    # No group of windows was found to be a trigger, so there were no pixels to look for.
    assert {row["match_score"] for row in (*kept, *removed)} == {""}
    columns = ["name", "digest", "poison_score", "classifier_score", "match_score", "cluster", "top", "left", "size"]
    assert list(kept[0]) == columns
    for row in (*kept, *removed):  # what was not scored has no window, and what was has both
        assert (row["poison_score"] == "") == (row["size"] == "")


def test_candidates_stand_by_rank_with_a_picture_each(folder: Path, outcome: AuditOutcome) -> None:
    candidates = rows(folder / "out/candidates.csv")
    assert [int(row["rank"]) for row in candidates] == list(range(1, len(candidates) + 1))
    assert all(0 <= int(row["top"]) <= 32 - int(row["size"]) for row in candidates)
    pictures = sorted(path.name for path in (folder / "out").glob("candidate-*.png"))
    assert pictures == [f"candidate-{rank:02d}.png" for rank in range(1, min(20, len(candidates)) + 1)]


def test_the_cleaned_set_holds_what_is_kept_byte_for_byte(folder: Path, outcome: AuditOutcome) -> None:
    with zipfile.ZipFile(folder / "out/cleaned.zip") as cleaned, zipfile.ZipFile(folder / "set.zip") as given:
        assert cleaned.namelist() == [row["name"] for row in rows(folder / "out/keep.csv")]
        assert all(cleaned.read(name) == given.read(name) for name in cleaned.namelist())


def test_the_report_says_what_the_lists_say(folder: Path, outcome: AuditOutcome) -> None:
    report = outcome.report
    jsonschema.Draft202012Validator(report_schema()).validate(report)
    found = report["cleansing"]
    assert found["removed"] == len(rows(folder / "out/removed.csv"))
    assert found["kept"] == len(rows(folder / "out/keep.csv"))
    assert sum(found["distribution"]["counts"]) == report["images"]["count"] == COUNT + 1
    assert found["duplicates"] == {"groups": 1, "images": 2, "largest": [["class-0/0000.png", "class-0/again.png"]]}
    assert rows(folder / "out/duplicates.csv") == [
        {"group": "1", "name": "class-0/0000.png"},
        {"group": "1", "name": "class-0/again.png"},
    ]
    assert [row["name"] for row in report["images"]["rejected"]] == ["class-0/broken.png"]
    assert rows(folder / "out/unusable.csv") == report["images"]["rejected"]
    assert found["threat_model"]["method"] == "simclr" and found["threat_model"]["steps"] == 3
    assert any("spectral" in sentence for sentence in report["untested"])
    assert (report["score"], report["triggers"], report["purification"]) == (None, [], None)
    assert set(report["methods"]) == {"cleansing", "threat_model"}
    named = {artifact.name for artifact in outcome.artifacts}
    assert {row["name"] for row in report["artifacts"]} == named - {"report.json", "report.html"}
    assert json.loads((folder / "out/report.json").read_text(encoding="utf-8")) == report


def test_the_threat_model_can_judge_the_set_again(folder: Path, outcome: AuditOutcome, tmp_path: Path) -> None:
    path = folder / "out/threat-model.safetensors"
    assert load_encoder(path).digest == outcome.report["encoder"]["sha256"]
    first = request(folder / "set.zip")
    again = AuditRequest(first.kind, path, first.images, parameters=first.parameters, seed=first.seed, device="cpu")
    second = run_audit(again, tmp_path, QuietRun())
    assert second.report["cleansing"]["threat_model"] is None
    assert (tmp_path / "keep.csv").read_text() == (folder / "out/keep.csv").read_text()
    assert {"threat-model.safetensors", "cleaned.zip"}.isdisjoint(path.name for path in tmp_path.iterdir())


def test_too_few_images_are_refused_before_any_training(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedInput) as caught:
        run_audit(request(suspect_zip(tmp_path / "few.zip", 60)), tmp_path, QuietRun())
    assert caught.value.problem.code == "too_few_images" and "at least 100" in caught.value.problem.expected


def test_no_images_at_all(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("readme.txt", "no images")
    with pytest.raises(UnsupportedInput) as caught:
        run_audit(request(tmp_path / "none.zip"), tmp_path, QuietRun())
    assert caught.value.problem.code == "no_images"


def test_a_card_without_an_encoder_is_a_mistake(folder: Path, tmp_path: Path) -> None:
    given = AuditRequest("cleanse", None, folder / "set.zip", card={"architecture": "torchvision/resnet18"})
    with pytest.raises(UsageError, match="card"):
        run_audit(given, tmp_path, QuietRun())


def test_detect_still_needs_an_encoder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        run_audit(AuditRequest("detect", None, folder / "set.zip"), tmp_path, QuietRun())
    assert caught.value.problem.code == "missing_encoder"


def test_a_set_that_changes_meanwhile_is_said_so(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: object) -> Path:
        raise cleansing_files.UnreadableMember("not a regular file")

    monkeypatch.setattr(cleansing_files, "write_subset", unreadable)
    with pytest.raises(AuditFailed, match="could be read before"):
        run_audit(request(folder / "set.zip", archive=True), tmp_path, QuietRun())


def test_verdict_and_images_of_the_outcome(outcome: AuditOutcome) -> None:
    assert outcome.verdict in (Verdict.POISONED, Verdict.CLEAN, Verdict.INCONCLUSIVE)
    assert outcome.verdict.value == outcome.report["verdict"] and outcome.score is None
