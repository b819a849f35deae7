"""Where a backdoor leads, and every kind of trigger that leads there.

Once a search has entered the backdoor's basin, the mean direction v of its triggered features is the *target embedding*
(.998 from the true one on the development encoders). Recovery towards v is well-posed: "reach this point" has no
generic basin, unlike "make everything alike", so each further search lands in the backdoor or visibly fails to. Not
in the paper; measured in docs/methods/ssldefender.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core.ops.cosine import similarity_to
from core.random import batch_indices, generator
from core.recovery.forward import features_in_chunks, features_of
from core.recovery.hypotheses import Hypothesis
from core.recovery.search import Candidate, judge
from core.run import Run
from core.training.state import TrainingState
from core.types import Encoder, Images


class _RawTriggers(torch.nn.Module):
    """Unconstrained pixel numbers of several hypotheses, one parameter each."""

    def __init__(self, raw: Sequence[Tensor]) -> None:
        super().__init__()
        self.raw = torch.nn.ParameterList([torch.nn.Parameter(one.clone()) for one in raw])


def reach(
    encoder: Encoder,
    images: Images,
    target: Tensor,
    hypotheses: Sequence[Hypothesis],
    run: Run,
    *,
    stage: str,
    steps: int,
    batch_size: int,
    learning_rate: float = 0.15,
    seed: int,
) -> list[Tensor]:
    """For each hypothesis a raw trigger ``[C, H, W]`` whose features point to ``target`` ``[D]`` as well as it can.

    All hypotheses share each step's batch and go through the encoder together.
    """
    random = generator(seed, stage, "weights")
    start = [torch.randn(h.channels, *encoder.image_size, generator=random) for h in hypotheses]
    triggers = _RawTriggers(start).to(encoder.device)
    optimiser = torch.optim.Adam(triggers.parameters(), lr=learning_rate, betas=(0.5, 0.9))
    state = TrainingState({"triggers": triggers}, optimiser)
    for step in run.steps(stage, steps, state=state):
        chosen = images[batch_indices(len(images), batch_size, seed, stage, step)]
        stamped = torch.cat([h.stamp(raw, chosen) for h, raw in zip(hypotheses, triggers.raw, strict=True)])
        similarity = similarity_to(features_of(encoder, stamped).view(len(hypotheses), len(chosen), -1), target)
        optimiser.zero_grad(set_to_none=True)
        (-similarity.sum()).backward()
        optimiser.step()
    return [raw.detach() for raw in triggers.raw]


def candidates_near(
    encoder: Encoder,
    held_back: Images,
    target: Tensor,
    hypotheses: Sequence[Hypothesis],
    raw: Sequence[Tensor],
    floor: float,
) -> list[Candidate]:
    """The triggers whose held-back features lie within cosine ``floor`` of ``target``, nearest first."""
    judged = [judge(encoder, held_back, h, one[None])[0] for h, one in zip(hypotheses, raw, strict=True)]
    near = [(float(similarity_to(c.features, target)), c) for c in judged]
    return [c for similarity, c in sorted(near, key=lambda pair: -pair[0]) if similarity >= floor]


def reached(encoder: Encoder, images: Images, target: Tensor, hypothesis: Hypothesis, raw: Tensor) -> float:
    """Mean cosine to ``target`` of ``images`` stamped with ``raw``, without gradients."""
    return float(similarity_to(features_in_chunks(encoder, hypothesis.stamp(raw, images)), target))
