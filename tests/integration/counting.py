"""A stand-in for ``core.audit.run_audit`` with the same contract: it counts, slowly, and says what it did.

Two stages; the state of each holds the steps taken, so that a test sees exactly which steps an attempt repeated.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from core.audit import Artifact, AuditOutcome, AuditRequest
from core.encoders.reading import Reading
from core.forecast.forecast import Forecast, PartForecast
from core.forecast.outline import Part
from core.forecast.probe import Speeds
from core.passes import Passes, Workload
from core.run import Run, StateDict
from core.types import Verdict

_COUNTING = Part("counting", {"first": Passes(forward=40), "second": Passes(forward=60)})
FORECAST = Forecast(
    Workload(10, 1, 1), (PartForecast(_COUNTING, 1.0, 2.0),), Speeds(0.01), memory_bytes=1000, device="cpu", threads=1
)


@dataclass
class CountState:
    """The running sum, and the steps since this process took the stage up."""

    total: torch.Tensor = field(default_factory=lambda: torch.zeros(1))
    steps_here: list[int] = field(default_factory=list)

    def state_dict(self) -> StateDict:
        return {"total": self.total}

    def load_state_dict(self, state: StateDict) -> None:
        self.total = state["total"]


def count(request: AuditRequest, output: Path, run: Run) -> AuditOutcome:
    """Sum 0..n-1 twice; ``parameters`` give ``steps`` and ``seconds`` a step."""
    steps, seconds = int(request.parameters.get("steps", 5)), float(request.parameters.get("seconds", 0.0))
    request.on_read(Reading("counted at 1x1.", ("Ten fingers.",)), ("Two of them are one.",))
    request.on_forecast(FORECAST)
    run.plan({"first": 1, "second": 3})
    states = {name: CountState() for name in ("first", "second")}
    for name, state in states.items():
        for step in run.steps(name, steps, state=state):
            state.steps_here.append(step)
            state.total += step
            run.log(total=float(state.total))
            time.sleep(seconds)
    assert request.encoder is not None
    report = {
        "sums": [int(state.total) for state in states.values()],
        "steps_here": {name: state.steps_here for name, state in states.items()},
        "encoder": request.encoder.read_bytes().decode(),
        "images": request.images.read_bytes().decode(),
        "seed": request.seed,
    }
    path = output / "report.json"
    path.write_text(json.dumps(report))
    return AuditOutcome(Verdict.CLEAN, 0.25, 0.5, report, (Artifact("report.json", path, "application/json"),))
