"""What a training stage carries from step to step, so that ``Run.steps`` can resume it exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from core.run import StateDict


class TrainingState:
    """Modules, their optimiser and some numbers, as one ``Stateful``.

    ``scalars`` holds what the stage returns beside the weights (a last loss): after a crash past the last step, no step
    runs again and the result must come from here.
    """

    def __init__(self, modules: Mapping[str, nn.Module], optimiser: Optimizer) -> None:
        self.modules = dict(modules)
        self.optimiser = optimiser
        self.scalars: dict[str, float] = {}

    def state_dict(self) -> StateDict:
        return {
            "modules": {name: dict(module.state_dict()) for name, module in self.modules.items()},
            "optimiser": self.optimiser.state_dict(),
            "scalars": dict(self.scalars),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, module in self.modules.items():
            module.load_state_dict(state["modules"][name])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scalars = dict(state["scalars"])
