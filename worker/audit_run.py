"""The worker's side of a running algorithm (``core.run.Run``): progress, cancellation, checkpoints, resume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from core.run import Progress, Stateful
from worker.heartbeat import Heartbeat
from worker.stage_checkpoints import StageCheckpoints


class AuditRun:
    """Between two steps it may raise Cancelled (the user asked), WorkerStopping or LeaseLost."""

    def __init__(self, heartbeat: Heartbeat, checkpoints: StageCheckpoints) -> None:
        self._heartbeat = heartbeat
        self._checkpoints = checkpoints
        self._progress = Progress()

    def plan(self, stages: Mapping[str, float]) -> None:
        """Announce the stages to come with their shares of the time."""
        self._progress.plan(stages)

    def steps(self, name: str, total: int, *, state: Stateful | None = None) -> Iterator[int]:
        """Step numbers from the saved one on; none when the stage was finished before the crash.

        A stage without ``state`` cannot be taken up and always starts at 0.
        """
        self._heartbeat.check()
        first = 0 if state is None else self._checkpoints.restore(name, total, state)
        self._heartbeat.moved(name, self._progress.at(name, first, total))
        for step in range(first, total):
            self._heartbeat.check()
            yield step
            done = step + 1
            self._heartbeat.moved(name, self._progress.at(name, done, total))
            if state is not None and (done == total or self._checkpoints.due or self._heartbeat.stop_requested):
                self._checkpoints.save(name, done, total, state)

    def log(self, **scalars: float) -> None:
        """Numbers worth showing beside the progress bar."""
        self._heartbeat.logged(scalars)
