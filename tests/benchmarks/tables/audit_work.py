"""A whole audit, as the command line runs it, from files to numbers: what it says, what it cost, what was forecast."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from core.audit import AuditOutcome, AuditRequest, run_audit
from core.catalog import KINDS, read_parameters
from core.device import is_gpu
from core.encoders.load import load_encoder
from core.forecast.forecast import Forecast
from core.memory import current_budget
from core.run import Run, Stateful
from core.training.stopwatch import Stopwatch
from core.types import Encoder
from tests.benchmarks.tables.cells import AuditRun
from tests.benchmarks.tables.images import ImageLibrary
from tests.benchmarks.tables.measurement import measure
from tests.benchmarks.tables.spent import peak_memory

KIND = "purify"


def audit(
    cell: AuditRun, before: Mapping[str, Any] | None, library: ImageLibrary, run: Run, device: torch.device
) -> dict[str, Any]:
    """Run the audit; a backdoored encoder that was purified is measured after it. ``before`` is its first measurement.

    The audit is told no name, and the truth is read when it is over.
    """
    settings = read_parameters(KINDS[KIND], cell.parameters)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive, output = folder / "images.zip", folder / "output"
        output.mkdir()
        library.write_for_defence(cell.images, cell.seed, archive)
        meter = Meter(run, tuple(settings.chosen["purification"].stages()), device)
        request = AuditRequest(
            KIND,
            cell.encoder.weights,
            archive,
            parameters=cell.parameters,
            seed=cell.seed,
            device=str(device),
            encoder_name="encoder.safetensors",
            container=".safetensors",
            on_forecast=meter.begin_search,
        )
        with register_module_forward_pre_hook(meter.count):
            outcome = run_audit(request, output, meter)
        told = {
            **_told(outcome),
            **meter.told(),
            "search_seconds": _seconds(outcome, settings.chosen["detection"].stages()),
        }
        if before is None or cell.before is None:
            return {**told, "measured": {}}
        if not told["purified"]:
            return {**told, "measured": before["measured"]}
        path = next(artifact.path for artifact in outcome.artifacts if artifact.name == "encoder")
        purified = load_encoder(path, name="encoder").encoder.to(device).eval()
        measured = {
            each: measure(purified, cell.encoder, each, library, run, before["measured"][each]["targets"])
            for each in cell.before.evaluated_on
        }
        return {**told, "measured": measured}


class Meter:
    """Passes everything on to ``run``, and keeps what the audit cost: time, images through the encoder, memory.

    The detection lasts from the forecast to the first of the stages ``unlearning``, or to the end where there is none.
    """

    def __init__(self, run: Run, unlearning: Sequence[str], device: torch.device) -> None:
        self._run, self._unlearning, self._device = run, unlearning, device
        self._start = _peak_memory(device)
        self._whole, self._search = Stopwatch(), Stopwatch()
        self._passes = 0
        self._detection: dict[str, float] | None = None
        self._forecast: Forecast | None = None
        self._budget: int | None = None

    def begin_search(self, forecast: Forecast) -> None:
        """The forecast has been made, and what it measured does not count."""
        budget = current_budget()
        self._budget = None if budget is None else budget.size
        self._forecast, self._search, self._passes = forecast, Stopwatch(), 0

    def count(self, module: torch.nn.Module, given: Any) -> None:
        """A hook on all modules: encoders are counted by their images, copies and students too."""
        if isinstance(module, Encoder):
            self._passes += len(given[0])

    def plan(self, stages: Mapping[str, float]) -> None:
        self._run.plan(stages)

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        if name in self._unlearning and self._detection is None:
            self._detection = self._detected()
        return self._run.steps(name, total, state=state)

    def log(self, **scalars: float) -> None:
        self._run.log(**scalars)

    def told(self) -> dict[str, Any]:
        """As the fields of a cell's document, up to now."""
        assert self._forecast is not None  # every audit makes one before its search
        forecast = self._forecast
        return {
            **asdict(self._whole.spent()),
            **(self._detection or self._detected()),
            "passes": self._passes,
            "peak_memory_mib": round((_peak_memory(self._device) - self._start) / 2**20, 1),
            "memory_budget_mib": None if self._budget is None else round(self._budget / 2**20, 1),
            "forecast": {
                **forecast.to_json(),
                "search_low": forecast.parts[0].seconds_low,
                "search_high": forecast.parts[0].seconds_high,
            },
        }

    def _detected(self) -> dict[str, float]:
        spent = self._search.spent()
        return {
            "detection_seconds": spent.seconds,
            "detection_cpu_seconds": spent.cpu_seconds,
            "detection_passes": self._passes,
        }


def _told(outcome: AuditOutcome) -> dict[str, Any]:
    """What the audit's report says."""
    report = outcome.report
    purification = report["purification"]
    told = ("verdict", "score", "threshold", "reasons", "hypotheses", "triggers", "stages")
    kept = ("verdict", "score", "threshold", "decided_by_before", "drift", "neighbour_agreement", "steps", "notes")
    return {
        **{name: report[name] for name in told},
        "images": report["images"]["count"],
        "purified": purification["performed"],
        "purification": {name: purification[name] for name in kept},
    }


def _seconds(outcome: AuditOutcome, stages: Mapping[str, float]) -> float:
    """What ``stages`` took on the clock."""
    return sum(stage["seconds"] for stage in outcome.report["stages"] if stage["name"] in stages)


def _peak_memory(device: torch.device) -> int:
    """Bytes: the most that this process has had so far, on a GPU of the GPU's memory."""
    return int(torch.cuda.max_memory_allocated(device)) if is_gpu(device) else peak_memory()
