"""The whole conversation between an algorithm and its caller.

An algorithm says ``for step in run.steps("recover trigger", config.steps, state=state):`` and nothing else. Its caller
decides what that means: silence, a progress bar, a heartbeat with checkpoints. After a crash the same call starts at
the saved step with the saved state; a stage that had finished yields no step at all. For the resumed run to equal an
unbroken one, batch k must be a pure function of (seed, k): see ``core.random``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

StateDict = Mapping[str, Any]
"""Nested dicts and lists of tensors, numbers, strings, booleans and None: what ``core.checkpoint`` can write."""


class Stateful(Protocol):
    """What a stage carries from step to step. The state after the last step must hold the stage's result."""

    def state_dict(self) -> StateDict: ...

    def load_state_dict(self, state: StateDict) -> None: ...


class Run(Protocol):
    """A caller's side of an algorithm. Stage names are unique within one run."""

    def plan(self, stages: Mapping[str, float]) -> None:
        """Announce the stages, in order, with their expected share of the time (any positive unit). Once more when
        more is known: the new plan names the stages that are done, too."""
        ...

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        """Step numbers of stage ``name``, like ``range(total)``, from the saved step on.

        Raises:
            Cancelled: between two steps, when the caller was asked to stop.
        """
        ...

    def log(self, **scalars: float) -> None:
        """Numbers worth showing beside the progress bar (a loss, a cosine)."""
        ...


class QuietRun:
    """No progress, no checkpoint, no cancellation: for tests and notebooks."""

    def plan(self, stages: Mapping[str, float]) -> None:
        pass

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        yield from range(total)

    def log(self, **scalars: float) -> None:
        pass


class StageRun:
    """``run`` with every stage name put under ``prefix``, so that one algorithm can run twice in one audit."""

    def __init__(self, run: Run, prefix: str) -> None:
        self._run = run
        self._prefix = prefix

    def plan(self, stages: Mapping[str, float]) -> None:
        """The outer caller has planned already; an inner plan is ignored."""

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        return self._run.steps(f"{self._prefix}: {name}", total, state=state)

    def log(self, **scalars: float) -> None:
        self._run.log(**scalars)


class Progress:
    """Turns (stage, step) into one monotonic fraction in [0, 1], by the weights of the plan."""

    def __init__(self) -> None:
        self._weights: dict[str, float] = {}
        self._done: dict[str, float] = {}
        self._shown = 0.0

    def plan(self, stages: Mapping[str, float]) -> None:
        self._weights = dict(stages)

    def at(self, name: str, step: int, total: int) -> float:
        """The overall fraction once ``step`` of ``total`` steps of stage ``name`` are done.

        A stage that begins closes all planned stages before it: a stage that was not needed does not hold the bar. A
        plan that grew holds it until the work has caught up.
        """
        order = list(self._weights)
        if name in self._weights:
            for earlier in order[: order.index(name)]:
                self._done[earlier] = 1.0
            self._done[name] = max(self._done.get(name, 0.0), step / total if total else 1.0)
        whole = sum(self._weights.values())
        done = sum(self._weights.get(n, 0.0) * f for n, f in self._done.items())
        self._shown = max(self._shown, min(1.0, done / whole) if whole else 0.0)
        return self._shown
