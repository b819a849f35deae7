"""For each cluster of clean features, the smallest mask that sends images of other clusters there, all side by side.

    min over m, p of   (1 - cos(f((1 - m) x + m p), c)) + lambda mean(m)        for every cluster with centre c

The clusters are independent problems: their images pass the encoder as one batch, and Adam, which works number by
number, serves them all. lambda is each cluster's own and starts at 0, as in Neural Cleanse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from core.micro_batches import groups
from core.ops.cosine import unit
from core.random import batch_indices, generator
from core.recovery.forward import features_of
from core.run import Run, StateDict
from core.triggers import MaskedTrigger
from core.types import Encoder, Images


@dataclass(frozen=True)
class InversionSettings:
    """What the search needs to know; the fields are documented in ``SslCleanseConfig``."""

    steps: int
    batch_size: int
    look_every: int
    learning_rate: float
    success: float
    weight_start: float
    weight_factor: float
    patience: int
    stop_patience: int


def invert(
    encoder: Encoder,
    images: Images,
    labels: Tensor,
    centres: Tensor,
    settings: InversionSettings,
    run: Run,
    stage: str,
    *,
    seed: int,
) -> Inversions:
    """One mask and pattern per cluster.

    Args:
        encoder: frozen. images: ``[N, 3, H, W]`` on its device. labels: ``[N]`` int64, the cluster of each image.
        centres: ``[K, D]`` of length 1; every cluster has images, and every cluster leaves out some.
    """
    inversions = Inversions(len(centres), encoder, settings, seed)
    others = [torch.nonzero(labels != cluster).flatten() for cluster in range(len(centres))]
    batch = min(settings.batch_size, *(len(left) for left in others))
    for step in run.steps(stage, settings.steps, state=inversions):
        if step % settings.look_every == 0 and not inversions.active():
            break
        active = inversions.active_clusters
        chosen = torch.stack([others[k][batch_indices(len(others[k]), batch, seed, stage, step, k)] for k in active])
        target = torch.tensor(active, device=centres.device)
        inversions.optimiser.zero_grad(set_to_none=True)
        for part in groups(encoder, images[chosen[0]], len(active)):
            reached = _descend(encoder, images[chosen[part]], centres, inversions, active[part], target[part])
            inversions.count(reached, target[part])
        if step % settings.look_every == settings.look_every - 1 or step == settings.steps - 1:
            with torch.no_grad():
                inversions.look(*inversions.current(active), target)
            run.log(succeeded=float(inversions.best_norm.isfinite().float().mean()))
        inversions.optimiser.step()
    return inversions


def _descend(
    encoder: Encoder, pixels: Images, centres: Tensor, inversions: Inversions, clusters: list[int], target: Tensor
) -> Tensor:
    """Add the gradients of the costs of ``clusters`` (``target`` as a tensor), each on its own of ``pixels`` ``[k, B,
    3, H, W]``; which share of them arrived, ``[k]``."""
    batch = pixels.shape[1]
    mask, pattern = inversions.current(clusters)
    stamped = pixels + mask[:, None] * (pattern[:, None] - pixels)
    features = unit(features_of(encoder, stamped.flatten(0, 1)))
    # Rows are stamped images, columns all centres: [k, B, K].
    cosines = (features @ centres.T).view(len(clusters), batch, -1)
    wanted = cosines.gather(2, target[:, None, None].expand(-1, batch, 1)).squeeze(2)
    cost = (1 - wanted).mean(1) + inversions.weight[target] * mask.mean((1, 2, 3))
    cost.sum().backward()
    return (cosines.argmax(2) == target[:, None]).float().mean(1)


class Inversions:
    """The masks' numbers, their optimiser, each cluster's lambda and its smallest successful mask so far.

    A cluster is finished when lambda has been raised and lowered and its mask has long not become smaller.
    """

    def __init__(self, count: int, encoder: Encoder, settings: InversionSettings, seed: int) -> None:
        random = generator(seed, "cluster inversion", "start")
        height, width = encoder.image_size
        device = encoder.device

        def start(channels: int) -> Tensor:
            uniform = torch.rand(count, channels, height, width, generator=random).clamp(0.01, 0.99)
            return torch.atanh(2 * uniform - 1).to(device).requires_grad_()

        def numbers(value: float) -> Tensor:
            return torch.full((count,), value, dtype=torch.float32, device=device)

        self._settings = settings
        self.mask, self.pattern = start(1), start(3)
        self.optimiser = torch.optim.Adam([self.mask, self.pattern], lr=settings.learning_rate, betas=(0.5, 0.9))
        self.weight = numbers(0)
        """lambda, 0 until a cluster has been reached ``patience`` looks in a row."""
        self.above, self.below = numbers(0), numbers(0)
        """Looks in a row that reached the cluster, or did not, since lambda last changed."""
        self.raised, self.lowered = numbers(0), numbers(0)
        """How often lambda was raised and lowered."""
        self.stale = numbers(0)
        """Looks since the mask last became smaller by a hundredth."""
        self.reached, self.counted = numbers(0), numbers(0)
        """Sum of the steps' success rates since the last look, and the number of steps."""
        self.best_norm = numbers(math.inf)
        self.best = torch.zeros(count, 4, height, width, device=device)
        self.active_clusters = list(range(count))

    def current(self, clusters: list[int]) -> tuple[Tensor, Tensor]:
        """Masks ``[k, 1, H, W]`` and patterns ``[k, 3, H, W]`` of ``clusters``, all in [0, 1]."""
        return torch.tanh(self.mask[clusters]) / 2 + 0.5, torch.tanh(self.pattern[clusters]) / 2 + 0.5

    def active(self) -> bool:
        """Whether a cluster is still being searched; brings ``active_clusters`` up to date."""
        finished = (self.raised > 0) & (self.lowered > 0) & (self.stale >= self._settings.stop_patience)
        self.active_clusters = torch.nonzero(~finished).flatten().tolist()
        return bool(self.active_clusters)

    def count(self, success: Tensor, clusters: Tensor) -> None:
        """Add a step's ``success`` rates ``[k]`` of ``clusters`` ``[k]`` int64."""
        self.reached[clusters] += success
        self.counted[clusters] += 1

    def look(self, mask: Tensor, pattern: Tensor, clusters: Tensor) -> None:
        """Keep masks that are smaller than before and reach their clusters, and move every lambda."""
        settings = self._settings
        norm = torch.full_like(self.best_norm, math.inf).index_copy(0, clusters, mask.mean((1, 2, 3)))
        looked = self.counted > 0
        succeeded = looked & (self.reached / self.counted.clamp_min(1) >= settings.success)
        smaller = succeeded & (norm < self.best_norm)
        self.stale = torch.where(smaller & (norm < 0.99 * self.best_norm), 0, self.stale + 1)
        self.best_norm = torch.where(smaller, norm, self.best_norm)
        kept = smaller[clusters].view(-1, 1, 1, 1)
        self.best[clusters] = torch.where(kept, torch.cat([mask, pattern], 1), self.best[clusters])
        self._move_weights(looked, succeeded)
        self.reached, self.counted = torch.zeros_like(self.reached), torch.zeros_like(self.counted)

    def _move_weights(self, looked: Tensor, succeeded: Tensor) -> None:
        settings = self._settings
        above = torch.where(succeeded, self.above + 1, 0)
        below = torch.where(succeeded, 0, self.below + looked.float())
        raised, lowered = above >= settings.patience, (below >= settings.patience) & (self.weight > 0)
        started = raised & (self.weight == 0)
        factor = torch.where(raised, settings.weight_factor, torch.where(lowered, 1 / settings.weight_factor, 1.0))
        self.weight = torch.where(started, settings.weight_start, self.weight * factor)
        self.raised, self.lowered = self.raised + (raised & ~started), self.lowered + lowered
        self.above, self.below = torch.where(raised, 0, above), torch.where(lowered, 0, below)

    def trigger(self, cluster: int) -> MaskedTrigger:
        """The smallest successful mask of ``cluster`` with its pattern."""
        best = self.best[cluster].float().cpu()
        return MaskedTrigger(best[:1], best[1:])

    def state_dict(self) -> StateDict:
        return {
            "raw": [self.mask.detach(), self.pattern.detach()],
            "optimiser": self.optimiser.state_dict(),
            "active": list(self.active_clusters),
            "numbers": {name: getattr(self, name) for name in _NUMBERS},
        }

    def load_state_dict(self, state: StateDict) -> None:
        with torch.no_grad():
            self.mask.copy_(state["raw"][0])
            self.pattern.copy_(state["raw"][1])
        self.optimiser.load_state_dict(state["optimiser"])
        self.active_clusters = list(state["active"])
        for name, value in state["numbers"].items():
            setattr(self, name, value.to(self.mask.device))


_NUMBERS = (
    "weight",
    "above",
    "below",
    "raised",
    "lowered",
    "stale",
    "reached",
    "counted",
    "best_norm",
    "best",
)
