"""The losses of a training, fetched from the device a few steps at a time.

A loss that is read at every step makes the processor wait for a GPU at every step, and the GPU then for the processor.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from core.errors import AuditFailed
from core.training.finite import ran_away


class LossHistory:
    """``values`` holds the losses that were fetched, one a step, all of them finite."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._unread: list[tuple[int, Tensor]] = []

    def add(self, loss: Tensor, step: int) -> None:
        """The scalar ``loss`` of ``step``; the device is not waited for."""
        self._unread.append((step, loss.detach()))

    def fetch(self) -> AuditFailed | None:
        """Fetch what was added since the last call. The first loss that is NaN or infinite is returned as what to raise
        about it; it and what came after it are dropped."""
        fetched, self._unread = [(step, float(loss)) for step, loss in self._unread], []
        for step, value in fetched:
            if not math.isfinite(value):
                return ran_away(value, step)
            self.values.append(value)
        return None

    def require_finite(self) -> None:
        """Fetch what was added since the last call.

        Raises:
            AuditFailed: a loss is NaN or infinite.
        """
        fault = self.fetch()
        if fault is not None:
            raise fault

    def state_dict(self) -> dict[str, Any]:
        return {"values": list(self.values), "unread": [[step, loss] for step, loss in self._unread]}

    def load_state_dict(self, state: Any) -> None:
        self.values = list(state["values"])
        self._unread = [(step, loss) for step, loss in state["unread"]]
