"""One cell, from files to numbers, in whatever process it is called."""

from __future__ import annotations

import multiprocessing
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from core.audit import check_features, failures_explained
from core.device import resolve_device
from core.encoders.load import load_encoder
from core.errors import AuditError
from core.recovery.detection import Detection
from core.run import QuietRun, Stateful
from core.stage_clock import StageClock
from core.training.checkpoints import versions
from core.training.stopwatch import Stopwatch
from core.types import Encoder
from tests.benchmarks.tables import audit_work, defence, poison_work
from tests.benchmarks.tables.cells import AuditRun, Cell, DetectionRun, Measurement, Purification
from tests.benchmarks.tables.images import ImageLibrary
from tests.benchmarks.tables.measurement import measure
from tests.benchmarks.tables.poison_cells import CleansingRun, Retraining
from tests.benchmarks.tables.results import ResultStore
from tests.benchmarks.tables.spent import spent

FORMAT = "encoder-audit-table-cell/1"


@dataclass(frozen=True)
class Workplace:
    """All that a process is told besides its cell. ``threads`` 0 leaves torch's own number."""

    library: ImageLibrary
    store: ResultStore
    device: str = "auto"
    threads: int = 1
    commit: str | None = None


def work(cell: Cell, place: Workplace) -> dict[str, Any]:
    """Run ``cell``. A fault that a user would be told of (a method that does not take this architecture, numbers that
    run away) is a result too, under ``problem``; any other error passes."""
    if place.threads:
        torch.set_num_threads(place.threads)
    document: dict[str, Any] = {
        "format": FORMAT,
        "title": cell.title,
        "cell": cell.identity(),
        "environment": _environment(place),
        "problem": None,
    }
    try:
        with failures_explained():
            return {**document, **_result(cell, place)}
    except AuditError as error:
        return {**document, "problem": error.problem.to_dict()}


def _result(cell: Cell, place: Workplace) -> dict[str, Any]:
    if isinstance(cell, Retraining):
        return poison_work.retrain(cell, place.library, place.store, _run(), resolve_device(place.device))
    if isinstance(cell, AuditRun):
        before = None if cell.before is None else place.store.read(cell.before)
        return audit_work.audit(cell, before, place.library, _run(), resolve_device(place.device))
    # The name of a zoo's encoder says what it is; a defence is told none.
    encoder = load_encoder(cell.encoder.weights, name="encoder").encoder.to(resolve_device(place.device)).eval()
    if isinstance(cell, Measurement):
        stopwatch = Stopwatch()
        measured = {name: measure(encoder, cell.encoder, name, place.library, _run()) for name in cell.evaluated_on}
        return {"measured": measured, **asdict(stopwatch.spent())}
    if isinstance(cell, DetectionRun):
        return _detect(cell, encoder, place)
    if isinstance(cell, CleansingRun):
        return poison_work.cleanse(cell, encoder, place.library, place.store, _run())
    return _purify(cell, encoder, place)


def _detect(cell: DetectionRun, encoder: Encoder, place: Workplace) -> dict[str, Any]:
    images = place.library.for_defence(cell.images, encoder.image_size, cell.seed)
    check_features(encoder, images)
    clock, stopwatch = StageClock(_run()), Stopwatch()
    found = defence.look(encoder, images, cell.choice(), clock, seed=cell.seed)
    cost = spent(stopwatch, clock, encoder)
    defence.save_detection(place.store.kept(cell), found)
    return {**_detection(found), "images": len(images), **cost}


def _purify(cell: Purification, encoder: Encoder, place: Workplace) -> dict[str, Any]:
    before = place.store.read(cell.before)
    assert before is not None
    seed = cell.detection.seed
    images = place.library.for_defence(cell.detection.images, encoder.image_size, seed)
    found = defence.read_detection(place.store.kept(cell.detection))
    clock, stopwatch = StageClock(_run()), Stopwatch()
    if cell.verified:
        looks = cell.detection.choice()
        done = defence.purify_and_verify(encoder, images, found, looks, cell.choice(), clock, seed=seed)
    else:
        done = defence.unlearn_once(encoder, images, found, cell.choice(), clock, seed=seed)
    # Taken before the evaluation's images are in memory: what counts is what the method needs.
    cost = spent(stopwatch, clock, encoder)
    if done.encoder is encoder:
        measured = before["measured"]
    else:
        measured = {
            name: measure(done.encoder, cell.encoder, name, place.library, _run(), before["measured"][name]["targets"])
            for name in cell.before.evaluated_on
        }
    unlearning = done.unlearning
    return {
        "purified": done.encoder is not encoder,
        "drift": None if unlearning is None else unlearning.drift,
        "neighbour_agreement": None if unlearning is None else unlearning.neighbour_agreement,
        "steps": 0 if unlearning is None else unlearning.steps,
        "notes": [] if unlearning is None else list(unlearning.notes),
        "verification": None if done.verification is None else _detection(done.verification),
        "images": len(images),
        "measured": measured,
        **cost,
    }


def _detection(found: Detection) -> dict[str, Any]:
    return {
        "verdict": str(found.verdict),
        "score": found.score,
        "threshold": found.threshold,
        "clean_similarity": found.clean_similarity,
        "hypotheses": [defence.hypothesis_state(row) for row in found.hypotheses],
        "triggers": [
            {"hypothesis": each.hypothesis, "similarity": each.similarity, "size": each.size, "unit": each.size_unit}
            for each in found.triggers
        ],
        "reasons": list(found.reasons),
    }


def _environment(place: Workplace) -> Mapping[str, Any]:
    device = resolve_device(place.device)
    return {
        "commit": place.commit,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions(),
    }


def _run() -> QuietRun:
    return _RunOfAChild()


class _RunOfAChild(QuietRun):
    """Stops when the process that asked for the result is gone: a killed bench leaves nothing running."""

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        parent = multiprocessing.parent_process()
        for step in range(total):
            if parent is not None and not parent.is_alive():
                raise SystemExit(f"the bench is gone; {name} stops")
            yield step
