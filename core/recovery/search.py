"""Label-free trigger recovery: n generators, one loss (SSLDefender Sec. IV-B, Algorithm 1).

    min over G_i of   sum_i  max(0, eps_i - S_i) - eta I_i          (Eq. 5, read as in MESA)

S_i is the mean off-diagonal pairwise cosine of a batch stamped with triggers of generator i (Eq. 2-3; the printed sign
of L_cos would push similarity down), I_i the MINE bound between G_i's noise and its triggers, capped, since it is
unbounded and would otherwise win over S.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import AuditFailed
from core.micro_batches import groups
from core.ops.cosine import mean_direction, pairwise_similarity
from core.ops.mutual_information import StatisticsNetworks
from core.passes import Passes
from core.random import draw_batch, generator
from core.recovery.forward import features_in_chunks, features_of
from core.recovery.generators import TriggerGenerators
from core.recovery.hypotheses import Hypothesis
from core.run import Run
from core.training.state import TrainingState
from core.triggers import AdditiveTrigger, MaskedTrigger
from core.types import Encoder, Features, Images

_PENALTY = 2.0
"""Weight of the cosine to a target that is to be avoided, beside the similarity that is sought."""


@dataclass(frozen=True)
class SearchSettings:
    """What one search needs to know; the fields are documented in ``SSLDefenderConfig``."""

    steps: int
    batch_size: int
    learning_rate: float
    thresholds: tuple[float, ...]
    mi_weight: float
    mi_cap: float
    noise_dim: int = 64
    hidden: int = 128


def search_passes(settings: SearchSettings, images: int, held_back: int) -> Passes:
    """Encoder passes of :func:`search` on so many ``images``, judged on ``held_back``."""
    triggers = len(settings.thresholds)
    searching = settings.steps * min(settings.batch_size, images) * triggers
    return Passes(forward=triggers * held_back, backward=searching)


@dataclass(frozen=True)
class Candidate:
    """What one generator ended with, judged on held-back images: its central trigger and how alike it makes them.

    ``location_adjusted`` is what remains of ``similarity`` without the effect of the same trigger at other places.
    Where it is there, it is what is held against clean encoders.
    """

    hypothesis: Hypothesis
    trigger: MaskedTrigger | AdditiveTrigger
    similarity: float
    features: Features
    location_adjusted: float | None = None

    @property
    def score(self) -> float:
        """What a verdict is read off."""
        return self.similarity if self.location_adjusted is None else self.location_adjusted


@dataclass(frozen=True)
class Elsewhere:
    """Keeps a search away from the unit direction ``target`` ``[D]``: triggers whose features have a mean direction of
    a cosine beyond ``allowed`` to it pay for that."""

    target: Tensor
    allowed: float

    def cost(self, features: Features) -> Tensor:
        """What features ``[n, B, D]`` of n triggers pay, ``[n]``."""
        beyond = mean_direction(features) @ self.target.to(features.device) - self.allowed
        return _PENALTY * beyond.clamp_min(0)


def away_from(found: Features, clean: Features) -> Elsewhere:
    """Elsewhere than where triggered features ``found`` ``[M, D]`` point; ``clean`` ``[N, D]`` are those of images. A
    cosine of .5, or that of images themselves, costs nothing."""
    target = mean_direction(found)
    return Elsewhere(target, max(0.5, float(mean_direction(clean) @ target)))


def search(
    encoder: Encoder,
    images: Images,
    held_back: Images,
    hypothesis: Hypothesis,
    settings: SearchSettings,
    run: Run,
    *,
    seed: int,
    elsewhere: Elsewhere | None = None,
) -> list[Candidate]:
    """One candidate per threshold (sub-model), best first.

    Args:
        encoder: frozen (see ``forward.frozen``). images: ``[N, 3, H, W]`` to optimise on, on the encoder's device.
        held_back: ``[M, 3, H, W]`` to judge on; disjoint from ``images``.

    Raises:
        AuditFailed: the encoder's features stopped being finite.
    """
    stage = stage_of(hypothesis, elsewhere is not None)
    generators, statistics = _networks(encoder, hypothesis, settings, generator(seed, stage, "weights"))
    optimiser = _optimiser(generators, statistics, settings)
    state = TrainingState({"generators": generators, "statistics": statistics}, optimiser)
    thresholds = torch.tensor(settings.thresholds, device=encoder.device)
    for step in run.steps(stage, settings.steps, state=state):
        _anneal(optimiser, step / settings.steps)
        chosen = draw_batch(images, settings.batch_size, seed, stage, step)
        values, z = _draw(generators, settings, len(chosen), generator(seed, stage, "noise", step))
        painted = values.detach().requires_grad_()
        reached = []
        for part in groups(encoder, chosen, generators.count):
            stamped = hypothesis.stamp(generators.to_images(painted[part]), chosen)
            features = features_of(encoder, stamped.flatten(0, 1)).view(*stamped.shape[:2], -1)
            similarity = pairwise_similarity(features)
            missing = (thresholds[part] - similarity).clamp_min(0)
            (missing if elsewhere is None else missing + elsewhere.cost(features)).sum().backward()
            reached.append(similarity.detach())
        optimiser.zero_grad(set_to_none=True)
        assert painted.grad is not None
        loss = (values * painted.grad).sum()  # its gradient is that of the similarities' loss
        if settings.mi_weight:
            information = statistics.information(z, values).clamp(max=settings.mi_cap)
            loss = loss - settings.mi_weight * information.sum()
        loss.backward()
        optimiser.step()
        if step % 10 == 9 or step == settings.steps - 1:
            run.log(similarity=_finite(float(torch.cat(reached).max()), stage, step))
    return judge(encoder, held_back, hypothesis, generators.central())


def stage_of(hypothesis: Hypothesis, elsewhere: bool = False) -> str:
    """The name of the stage that :func:`search` is."""
    return f"recover {hypothesis.name}" + (", another target" if elsewhere else "")


def _draw(
    generators: TriggerGenerators, settings: SearchSettings, batch: int, random: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Grid values for a batch, and their noise. Without an information term all images share the central trigger, the
    bias: spread that nothing asks for only blurs the gradient, and the search then misses the backdoor's basin more
    often."""
    if settings.mi_weight:
        z = generators.noise(batch, random)
        return generators.grid_values(z), z
    return generators.bias, torch.zeros(generators.count, 1, generators.noise_dim, device=generators.bias.device)


def judge(encoder: Encoder, held_back: Images, hypothesis: Hypothesis, raw: Tensor) -> list[Candidate]:
    """The triggers of ``raw`` ``[n, C, H, W]`` on images that no search saw, the most similar first."""
    candidates = []
    for one in raw:
        trigger = hypothesis.trigger(one, encoder.image_size)
        features = features_in_chunks(encoder, trigger(held_back))
        candidates.append(Candidate(hypothesis, trigger, float(pairwise_similarity(features)), features))
    return sorted(candidates, key=lambda candidate: candidate.similarity, reverse=True)


def _networks(
    encoder: Encoder, hypothesis: Hypothesis, settings: SearchSettings, random: torch.Generator
) -> tuple[TriggerGenerators, StatisticsNetworks]:
    count = len(settings.thresholds)
    generators = TriggerGenerators(
        count,
        hypothesis.channels,
        hypothesis.canvas(encoder.image_size),
        noise_dim=settings.noise_dim,
        hidden=settings.hidden,
        generator=random,
    )
    painted = generators.bias.shape[-1]
    statistics = StatisticsNetworks(count, settings.noise_dim, painted, settings.hidden, random)
    return generators.to(encoder.device), statistics.to(encoder.device)


def _optimiser(
    generators: TriggerGenerators, statistics: StatisticsNetworks, settings: SearchSettings
) -> torch.optim.Adam:
    """The bias (the trigger itself) moves at the search's rate, the networks at MESA's 2e-4.

    One optimiser serves G and T: both ascend the same bound, so there is no game to alternate. Without an information
    term the networks are not asked, and Adam does not walk over their millions of weights.
    """
    groups = [{"params": [generators.bias], "lr": settings.learning_rate}]
    if settings.mi_weight:
        groups.append({"params": [generators.first, generators.last, *statistics.parameters()], "lr": 2e-4})
    return torch.optim.Adam(groups, betas=(0.5, 0.9))


def _anneal(optimiser: torch.optim.Adam, progress: float) -> None:
    """A third of the learning rate for the last 40 % of the steps, for the bias only."""
    group = optimiser.param_groups[0]
    full = group.setdefault("full_lr", group["lr"])
    group["lr"] = full if progress < 0.6 else 0.3 * full


def _finite(similarity: float, stage: str, step: int) -> float:
    if similarity != similarity:
        raise AuditFailed(
            "features_not_finite",
            field="encoder",
            found=f"features that are not finite at step {step} of '{stage}'",
            expected="finite features for every image in [0, 1]",
            action="Check that the weights are complete and that mean and std of the card fit the encoder.",
        )
    return similarity
