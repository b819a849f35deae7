"""How much memory the passes of an encoder may take: one budget for all stages of an audit.

A stage asks ``core.micro_batches`` how many images fit, and puts no more through the encoder at once. The budget is of
what grows with the batch: activations, gradients and copies of images. Weights, and the images themselves, come on top.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from core.device import is_gpu
from core.memory_size import LEAST

SHARE = 0.25
"""Of what is free when an audit starts, the budget where none is stated."""


@dataclass(frozen=True)
class Budget:
    """``size`` in bytes; ``stated`` says whether somebody asked for it."""

    size: int
    stated: bool = False


_budget: ContextVar[Budget | None] = ContextVar("memory budget", default=None)


@contextmanager
def memory_budget(size: int | None, device: torch.device) -> Iterator[Budget]:
    """Within the block all passes keep to ``size`` bytes; None: to a quarter of what is free on ``device`` now."""
    chosen = Budget(default_size(device)) if size is None else Budget(size, stated=True)
    token = _budget.set(chosen)
    try:
        yield chosen
    finally:
        _budget.reset(token)


def current_budget() -> Budget | None:
    """The budget of the block that this is called in; None outside of any."""
    return _budget.get()


def budget_on(device: torch.device) -> Budget:
    """:func:`current_budget`; outside of any block, a quarter of what was free at the first call for ``device``."""
    return _budget.get() or _at_first(device)


def default_size(device: torch.device) -> int:
    """A quarter of what is free on ``device`` now, in bytes."""
    return max(LEAST, int(SHARE * free_memory(device)))


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still get on ``device``: on a GPU what its driver says; otherwise the least of what
    the system, the control group and the process limit leave."""
    if is_gpu(device):
        return int(torch.cuda.mem_get_info(device)[0])
    rooms = (_system_room(), _limit_room(), *(_group_room(folder) for folder in _control_groups()))
    return max(0, min(room for room in rooms if room is not None))


@lru_cache(maxsize=16)
def _at_first(device: torch.device) -> Budget:
    return Budget(default_size(device))


def _system_room() -> int:
    """What the kernel calls available; where it says nothing, half of what is installed, or 4 GiB."""
    available = _field(Path("/proc/meminfo"), "MemAvailable:")
    if available is not None:
        return available * 2**10
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 2**32


def _limit_room() -> int | None:
    """What ``ulimit -v`` leaves; None without such a limit."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    return limit - (_field(Path("/proc/self/status"), "VmSize:") or 0) * 2**10


def _control_groups() -> Iterator[Path]:
    """The folders of this process' memory control group and of those above it, of either version."""
    root = Path("/sys/fs/cgroup")
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, place = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        group = (root / "memory" if controllers else root) / place.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(root))


def _group_room(folder: Path) -> int | None:
    """What a control group's limit leaves, page cache that can be dropped not counted; None without a limit."""
    limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
    used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    return limit - used + (_field(folder / "memory.stat", "inactive_file") or 0)


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)[:1]).strip()
    return int(text) if text.isdecimal() else None


def _field(path: Path, name: str) -> int | None:
    """The number after ``name`` in a file of such lines; None where there is none."""
    return next((int(words[1]) for words in map(str.split, _lines(path)) if words[:1] == [name]), None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
