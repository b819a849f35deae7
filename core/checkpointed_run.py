"""A run that writes its stages to a folder and goes on from there: for long work on the command line."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from core.checkpoint import load_checkpoint, save_checkpoint
from core.run import Run, Stateful


class CheckpointedRun:
    """``run`` with a checkpoint of each stage in ``folder``, every ``every`` seconds and at the stage's end.

    The folder belongs to one piece of work: the caller names it after everything that decides the result, and removes
    it when the result is safe. ``on_resume`` hears of a stage that goes on from a step.
    """

    def __init__(
        self,
        run: Run,
        folder: Path,
        *,
        every: float = 60.0,
        on_resume: Callable[[str, int], None] = lambda name, step: None,
    ) -> None:
        self._run = run
        self._folder = folder
        self._every = every
        self._on_resume = on_resume

    def plan(self, stages: Mapping[str, float]) -> None:
        self._run.plan(stages)

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        path = self._folder / (re.sub(r"[^A-Za-z0-9]+", "-", name) + ".safetensors")
        done = 0
        if state is not None and path.is_file():
            saved = load_checkpoint(path)
            done = int(saved["step"])
            state.load_state_dict(saved["state"])
            self._on_resume(name, done)
        written = time.monotonic()
        for step in self._run.steps(name, total):
            if step < done:
                continue
            yield step
            if state is not None and (step + 1 == total or time.monotonic() - written >= self._every):
                self._folder.mkdir(parents=True, exist_ok=True)
                save_checkpoint(path, {"step": step + 1, "state": state.state_dict()})
                written = time.monotonic()

    def log(self, **scalars: float) -> None:
        self._run.log(**scalars)
