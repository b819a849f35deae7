"""A real cleansing on a worker: no encoder, killed in the search, taken up by another attempt, its files stored."""

from __future__ import annotations

import csv
import io
import uuid
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from api.storage import artifacts
from api.storage.tables import Audit
from core.audit import AuditOutcome, AuditRequest, run_audit
from core.run import QuietRun, Run, Stateful
from tests.integration.test_execute import Crash, lose_lease
from tests.unit.suspects import SEARCH, THREAT, request, suspect_zip
from worker.execute import WorkerContext, execute

AuditRow = Callable[[uuid.UUID], Audit]


class Watched:
    """A run that notes how many steps each stage took; dies at the second step of ``dies_in``."""

    def __init__(self, run: Run, taken: dict[str, int], dies_in: str | None) -> None:
        self._run, self._taken, self._dies_in = run, taken, dies_in

    def plan(self, stages: Mapping[str, float]) -> None:
        self._run.plan(stages)

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        self._taken[name] = 0
        for step in self._run.steps(name, total, state=state):
            if name == self._dies_in and self._taken[name] == 2:
                raise Crash
            yield step
            self._taken[name] += 1

    def log(self, **scalars: float) -> None:
        self._run.log(**scalars)


def test_killed_in_the_search_it_ends_with_the_same_list(
    context: WorkerContext, submit: Callable[..., uuid.UUID], audit_row: AuditRow, tmp_path: Path
) -> None:
    images = suspect_zip(tmp_path / "set.zip")
    parameters = {"archive": True, "cleansing": dict(SEARCH), "threat_model": dict(THREAT)}
    audit_id = submit(kind="cleanse", images=images.read_bytes(), parameters=parameters)
    taken: dict[str, int] = {}

    def watched(dies_in: str | None) -> Callable[[AuditRequest, Path, Run], AuditOutcome]:
        return lambda given, output, run: run_audit(given, output, Watched(run, taken, dies_in))

    with pytest.raises(Crash):
        execute(audit_id, context, watched("search"))
    assert taken["train encoder"] == 3 and taken["search"] == 2
    lose_lease(context.sessions, audit_id)
    execute(audit_id, context, watched(None))
    row = audit_row(audit_id)
    assert (row.state, row.attempt, row.encoder_id, row.score) == ("succeeded", 2, None, None)
    assert taken["train encoder"] == 0 and "search" in taken  # the training was not repeated
    with context.sessions.begin() as session:
        stored = {each.name: each for each in artifacts.list_artifacts(session, audit_id)}
    wanted = {"keep.csv", "removed.csv", "candidates.csv", "candidates.png", "report.json", "report.html"}
    assert wanted | {"cleaned.zip", "threat-model.safetensors"} <= stored.keys()

    def content(name: str) -> bytes:
        return b"".join(context.objects.read(stored[name].object_key))

    (tmp_path / "unbroken").mkdir()
    unbroken = replace(request(images, **parameters), seed=7)
    run_audit(unbroken, tmp_path / "unbroken", QuietRun())
    assert content("keep.csv") == (tmp_path / "unbroken/keep.csv").read_bytes()
    kept = [line["name"] for line in csv.DictReader(io.StringIO(content("keep.csv").decode()))]
    with zipfile.ZipFile(io.BytesIO(content("cleaned.zip"))) as cleaned:
        assert cleaned.namelist() == kept
