"""What a run cost: seconds, memory, stages."""

from __future__ import annotations

import resource
import sys
from dataclasses import asdict
from typing import Any

import torch

from core.stage_clock import StageClock
from core.training.stopwatch import Stopwatch
from core.types import Encoder


def spent(stopwatch: Stopwatch, clock: StageClock, encoder: Encoder) -> dict[str, Any]:
    """As the fields of a cell's document, up to now."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    on_gpu = encoder.device.type == "cuda"
    return {
        **asdict(stopwatch.spent()),
        "peak_memory_mib": round(peak, 1),
        "peak_gpu_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1) if on_gpu else None,
        "stages": [asdict(time) for time in clock.times],
    }
