"""What a self-supervised trainer is to the training loop: a module whose ``forward`` is the loss of one step."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from core.random import derive_seed
from core.training.cut_mix import Mixture
from core.types import Encoder, Images


class Objective(nn.Module, ABC):
    """A student encoder with all that its loss needs: heads, momentum copies, queues.

    Everything that changes from step to step is in the state dict, so that training can resume exactly. Random
    numbers of a step come from the generator that is given to it.
    """

    def __init__(self, student: Encoder) -> None:
        super().__init__()
        self.student = student

    @abstractmethod
    def forward(self, first: Images, second: Images, mixture: Mixture | None, random: torch.Generator) -> Tensor:
        """The loss of two views ``[B, 3, H, W]``, a scalar; ``mixture`` if the first views (the queries) are mixed."""

    def after_step(self, progress: float) -> None:
        """Called once the optimiser has moved; ``progress`` in (0, 1] is the share of the training that is done."""


class ObjectiveFactory(Protocol):
    """Builds a trainer's objective around ``student``; its heads' weights follow from ``seed``."""

    def __call__(self, student: Encoder, config: Any, *, seed: int) -> Objective: ...


ModuleT = TypeVar("ModuleT", bound=nn.Module)


def seeded(build: Callable[[], ModuleT], seed: int, *keys: str | int) -> ModuleT:
    """``build()``, a module, with initial weights that follow from (seed, keys): torch's global generator, from which
    constructors draw, is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(seed, *keys))
        return build()


def momentum_copy(module: nn.Module) -> nn.Module:
    """A copy of ``module`` that no gradient reaches. It stays in training mode: its BatchNorm normalises by the batch.

    Official MoCo and BYOL do the same: parameters follow by momentum, running statistics by the copy's own batches.
    """
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def follow(copy_of: nn.Module, module: nn.Module, momentum: float) -> None:
    """Move the momentum copy: p' <- m p' + (1 - m) p, parameters only; in place."""
    targets: list[Tensor] = list(copy_of.parameters())
    torch._foreach_lerp_(targets, [source.detach() for source in module.parameters()], 1 - momentum)
