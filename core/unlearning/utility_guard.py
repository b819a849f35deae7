"""Stops a training that spoils clean features, and gives back the weights from before it did."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor

from core.config import MethodConfig
from core.types import Encoder
from core.unlearning.utility import UtilityEvaluator

LOOK_EVERY = 10
"""Steps between two looks at held-back images."""


def is_due(step: int, total: int) -> bool:
    """Whether to look after ``step`` of ``total``; after the last one always."""
    return step % LOOK_EVERY == LOOK_EVERY - 1 or step == total - 1


class GuardedConfig(MethodConfig):
    """The limits that every training with a guard has."""

    max_drift: float = Field(
        0.25,
        gt=0,
        le=2,
        description="Stop when held-back clean features have moved further (1 - cosine), and go back to the last "
        "weights that had not. In no paper.",
    )
    min_agreement: float = Field(
        0.3,
        ge=0,
        le=1,
        description="The same when a smaller share of the nearest neighbours of held-back clean images are still "
        "their nearest. In no paper.",
    )


class UtilityGuard:
    """A copy of the student's weights at the last look that was within the limits; at first, those it starts with."""

    def __init__(self, evaluator: UtilityEvaluator, student: Encoder, limits: GuardedConfig) -> None:
        self._evaluator, self._student, self._limits = evaluator, student, limits
        self._good = self._weights()
        self._good_steps = 0
        self._reason: str | None = None
        self.retreats = 0

    @property
    def stopped(self) -> bool:
        """Whether a look was outside of the limits."""
        return self._reason is not None

    def look(self, steps: int) -> bool:
        """Measure the student after ``steps`` steps of training: keep its weights, or stop. Whether it goes on."""
        utility, limits = self._evaluator.utility(self._student), self._limits
        # Not "drift > limit": a drift that is not a number must stop as well.
        if not utility.drift <= limits.max_drift:
            self._reason = f"Stopped after {steps} steps: clean features moved by more than {limits.max_drift}"
        elif utility.neighbour_agreement < limits.min_agreement:
            self._reason = (
                f"Stopped after {steps} steps: clean images kept {utility.neighbour_agreement:.0%} of their nearest "
                f"neighbours, less than {limits.min_agreement:.0%}"
            )
        else:
            self._good, self._good_steps = self._weights(), steps
        return self._reason is None

    def retreat(self) -> None:
        """After a look that stopped it: give the student its last good weights back, for a training that goes on from
        there more carefully."""
        self._student.load_state_dict(self._good)
        self._reason = None
        self.retreats += 1

    def settle(self) -> tuple[str, ...]:
        """At the end: give the student its last good weights back if training was stopped; what to say about it."""
        notes = []
        if self.retreats:
            times = "Once" if self.retreats == 1 else f"{self.retreats} times"
            notes.append(f"{times} clean features moved too far: training went back, and on at half the rate.")
        if self._reason is not None:
            self._student.load_state_dict(self._good)
            notes.append(f"{self._reason}. The weights are those after {self._good_steps} steps.")
        return tuple(notes)

    def state_dict(self) -> dict[str, Any]:
        return {
            "good": dict(self._good),
            "steps": self._good_steps,
            "reason": self._reason,
            "retreats": self.retreats,
        }

    def load_state_dict(self, state: Any) -> None:
        self._good, self._good_steps, self._reason = dict(state["good"]), state["steps"], state["reason"]
        self.retreats = state["retreats"]

    def _weights(self) -> dict[str, Tensor]:
        return {name: tensor.detach().clone() for name, tensor in self._student.state_dict().items()}
