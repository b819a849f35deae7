"""What a run cost: seconds, memory, stages."""

from __future__ import annotations

import resource
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from core.stage_clock import StageClock
from core.training.stopwatch import Stopwatch
from core.types import Encoder


def spent(stopwatch: Stopwatch, clock: StageClock, encoder: Encoder) -> dict[str, Any]:
    """As the fields of a cell's document, up to now."""
    on_gpu = encoder.device.type == "cuda"
    return {
        **asdict(stopwatch.spent()),
        "peak_memory_mib": round(peak_memory() / 2**20, 1),
        "peak_gpu_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1) if on_gpu else None,
        "stages": [asdict(time) for time in clock.times],
    }


def peak_memory() -> int:
    """Bytes: the most that this process has held in memory so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 2**10
    # On Linux this would be no less than what the parent held when it began this process.
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
