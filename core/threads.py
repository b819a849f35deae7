"""How many CPU threads to compute with."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores that this process may run on; fewer than the machine has where an affinity was set."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def spare_threads(shares: int = 1) -> int:
    """Threads for one of ``shares`` computations side by side, at least one.

    One core is left to everything else: a step of PyTorch waits for its slowest thread, and where another process takes
    the last core for a moment, all the others spin.
    """
    return max(1, (usable_cores() - 1) // shares)
