"""Which images of a poisoned set to remove: those that the poison classifier flags (PoisonCAM Sec. IV-D) and those that
show the very pixels of a trigger that was found."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.cleansing import cut
from core.cleansing.candidates import Judged
from core.cleansing.classifier_training import classify, train_classifier
from core.cleansing.clustering import Clustering
from core.cleansing.config import CleansingConfig
from core.cleansing.matching import LARGEST_CUT, LEAST_CUT, Matches
from core.cleansing.result import Candidate, ScoreDistribution
from core.cleansing.search import SearchState
from core.cleansing.verdict import Judgement
from core.run import Run
from core.types import ImageSet


@dataclass(frozen=True)
class Removal:
    """``keep`` ``[N]`` bool; ``probability`` and ``match`` ``[N]`` fp32, two of ``result.ImageFindings``;
    ``distribution`` is that of the classifier's scores; ``notes`` say what removed how many."""

    keep: Tensor
    probability: Tensor
    match: Tensor
    distribution: ScoreDistribution | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def nothing(cls, images: int) -> Removal:
        """All of so many images are kept, and nothing was asked about them."""
        unknown = torch.full((images,), torch.nan)
        return cls(torch.ones(images, dtype=torch.bool), unknown, unknown.clone())


def choose_removal(
    judged: Judged,
    judgement: Judgement,
    matches: Matches | None,
    suspicion: Tensor,
    images: ImageSet,
    config: CleansingConfig,
    run: Run,
    *,
    device: torch.device,
    seed: int,
) -> Removal:
    """Ask the classifier about every image; ``matches`` are what comparing every image with the triggers of
    ``judgement`` gave, None where that was not asked. ``suspicion`` ``[N]`` is :func:`suspicion_of` each image."""
    # Images that were found by their pixels say nothing about how alike those pixels must be.
    known = torch.tensor(
        [c.index for c in judged.candidates if c.group in judgement.triggers and c.found_by == "search"],
        dtype=torch.int64,
    )
    matched, match = _matched(matches, known, len(images))
    chosen = poison_set(judged.candidates, judgement, config)
    probability = _ask_classifier(chosen, suspicion, images, config, run, device=device, seed=seed)
    place = place_of_cut(probability, matched, known) if config.cut is None else config.cut
    flagged = probability > place
    notes: tuple[str, ...] = ()
    if bool(matched.any()):
        notes = (
            f"{int(matched.sum()):,} images show the pixels of a trigger that was found; the poison classifier flags "
            f"{int((flagged & ~matched).sum()):,} besides.",
        )
    return Removal(~(flagged | matched), probability, match, cut.distribution(probability, place), notes)


def poison_set(candidates: tuple[Candidate, ...], judgement: Judgement, config: CleansingConfig) -> list[Candidate]:
    """The k candidates whose patches train the classifier: X^p of Sec. IV-D.

    Each trigger that was found gives its share, so that in an attack with several the weaker one is learnt as well.
    """
    if not config.groups_first or not judgement.triggers:
        return list(candidates[: config.poison_set])
    groups = [[c for c in candidates if c.group == number] for number in judgement.triggers]
    taken: list[Candidate] = []
    for depth in range(max(map(len, groups))):
        taken += [group[depth] for group in groups if depth < len(group)]
    return sorted(taken[: config.poison_set], key=lambda c: c.rank)


def suspicion_of(state: SearchState, clustering: Clustering, config: CleansingConfig) -> Tensor:
    """How poisoned each image is taken to be, ``[N]``: its own score, else the mean of its cluster's scores, in which
    the search found it not worth looking any further; an unseen cluster's images count as 0. In the papers' form all
    images without a score of their own do."""
    if not config.unscored_as_cluster:
        return state.scores.nan_to_num(0.0)
    means = state.totals / state.visited.clamp_min(1)
    of_cluster = means[clustering.labels.cpu()]
    return torch.where(state.scores.isnan(), of_cluster, state.scores)


def _matched(matches: Matches | None, known: Tensor, images: int) -> tuple[Tensor, Tensor]:
    """Which images show a trigger's pixels, ``[N]`` bool, and how nearly, ``[N]``; none and NaN where none was asked.
    ``known`` are images in which a trigger was found."""
    if matches is None:
        return torch.zeros(images, dtype=torch.bool), torch.full((images,), torch.nan)
    place = cut.valley(matches.score, matches.score[known], least=LEAST_CUT, largest=LARGEST_CUT)
    return matches.score > place, matches.score


def place_of_cut(probability: Tensor, matched: Tensor, known: Tensor) -> float:
    """Where the classifier's scores ``[N]`` are cut. It is there for images that are not ``matched`` ``[N]``; those
    that are, hundreds, say how sure it is of a trigger, and of others it must be as sure. Without any, ``known`` do."""
    if not bool(matched.any()):
        return cut.valley(probability, probability[known])
    return cut.valley(probability[~matched], probability[matched], largest=cut.LARGEST_BESIDE_MATCHES)


def _ask_classifier(
    chosen: list[Candidate],
    suspicion: Tensor,
    images: ImageSet,
    config: CleansingConfig,
    run: Run,
    *,
    device: torch.device,
    seed: int,
) -> Tensor:
    """Train on the poison set ``chosen``, then the probability of poison of every image, ``[N]``."""
    found = torch.tensor([candidate.index for candidate in chosen])
    ranked = suspicion.clone()
    ranked[found] = torch.inf
    order = torch.argsort(ranked, stable=True)
    negatives = order[: len(order) - max(len(found), int(config.noise_fraction * len(order)))]
    validation = (found, negatives[: 10 * len(found)])
    patches = [candidate.patch.float() / 255 for candidate in chosen]
    ensemble = train_classifier(images, patches, negatives, validation, config, run, device=device, seed=seed)
    return classify(ensemble, images, run, device=device)
