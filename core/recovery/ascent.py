"""Gradient recovery of many triggers at once, each with a hypothesis of its own, towards one objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from core.micro_batches import groups
from core.random import draw_batch, generator
from core.recovery.forward import features_of
from core.recovery.hypotheses import Hypothesis
from core.run import Run
from core.training.state import TrainingState
from core.types import Encoder, Features, Images

Objective = Callable[[Features], Tensor]
"""What to raise: features ``[n, B, D]`` of n triggers on one batch to one number per trigger, ``[n]``."""


class _RawTriggers(torch.nn.Module):
    """Unconstrained pixel numbers of several hypotheses, one parameter each."""

    def __init__(self, raw: Sequence[Tensor]) -> None:
        super().__init__()
        self.raw = torch.nn.ParameterList([torch.nn.Parameter(one.clone()) for one in raw])


def ascend(
    encoder: Encoder,
    images: Images,
    hypotheses: Sequence[Hypothesis],
    objective: Objective,
    run: Run,
    *,
    stage: str,
    steps: int,
    batch_size: int,
    seed: int,
    start: Sequence[Tensor] | None = None,
    learning_rate: float = 0.15,
) -> list[Tensor]:
    """For each hypothesis a raw trigger ``[C, H, W]`` on which ``objective`` is as large as it got.

    All hypotheses share each step's batch of ``images`` ``[N, 3, H, W]`` and go through the encoder together, as many
    at a time as fit. ``start`` continues from raw triggers; by default they are drawn from N(0, 1).
    """
    if start is None:
        random = generator(seed, stage, "start")
        start = [torch.randn(h.channels, *h.canvas(encoder.image_size), generator=random) for h in hypotheses]
    triggers = _RawTriggers(start).to(encoder.device)
    optimiser = torch.optim.Adam(triggers.parameters(), lr=learning_rate, betas=(0.5, 0.9))
    state = TrainingState({"triggers": triggers}, optimiser)
    for step in run.steps(stage, steps, state=state):
        chosen = draw_batch(images, batch_size, seed, stage, step)
        optimiser.zero_grad(set_to_none=True)
        values = []
        for part in groups(encoder, chosen, len(hypotheses)):
            pairs = list(zip(hypotheses, triggers.raw, strict=True))[part]
            stamped = torch.cat([hypothesis.stamp(raw, chosen) for hypothesis, raw in pairs])
            reached = objective(features_of(encoder, stamped).view(len(pairs), len(chosen), -1))
            (-reached.sum()).backward()
            values.append(reached.detach())
        optimiser.step()
        if step == steps - 1:
            run.log(similarity=float(torch.cat(values).max()))
    return [raw.detach() for raw in triggers.raw]
