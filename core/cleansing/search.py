"""The iterative search for highly poisoned images (PoisonCAM Sec. IV-C; PatchSearch's Algorithm).

Every round scores s unseen images of each cluster that is left and drops the fraction r of the clusters that score
lowest. The schedule of rounds is fixed beforehand, and so is the order in which a cluster's images are seen: step k
depends on the seed and on the steps before, not on how the run was cut into pieces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from core.cleansing.activation_masking import Attention
from core.cleansing.clustering import Clustering
from core.cleansing.config import CleansingConfig
from core.cleansing.flip_test import FlipTest
from core.cleansing.result import SearchRound
from core.cleansing.schedule import clusters_per_round
from core.ops.windows import best_window, cut
from core.random import generator
from core.run import Run, StateDict
from core.types import Images, ImageSet

STAGE = "search"
CLUSTERS_PER_STEP = 32
"""Clusters visited between two looks at the caller: a round of a large set takes minutes."""

Localiser = Callable[[Images], Attention]
"""Attention maps of a batch of images: where PoisonCAM and PatchSearch differ."""


class SearchState:
    """What the search knows after a step; all tensors on the CPU.

    ``scores`` and ``changed`` ``[N]`` fp32 (NaN: not scored), ``seen`` ``[N]``: flip images each was pasted on;
    ``places`` ``[N, 2]`` top and left; ``targets`` ``[N]``. ``totals`` and ``samples`` ``[l]``: sum and number of a
    cluster's scores; ``latest`` ``[l]``: its score of the last round.
    """

    def __init__(self, images: int, clusters: int) -> None:
        self.scores = torch.full((images,), torch.nan)
        self.changed = torch.full((images,), torch.nan)
        self.places = torch.full((images, 2), -1)
        self.targets = torch.full((images,), -1)
        self.alive = torch.arange(clusters)
        self.visited = torch.zeros(clusters, dtype=torch.int64)
        self.totals = torch.zeros(clusters)
        self.latest = torch.zeros(clusters)
        self.rounds: list[SearchRound] = []
        self.scored_before = 0

    _TENSORS = ("scores", "changed", "places", "targets", "alive", "visited", "totals", "latest")

    def state_dict(self) -> StateDict:
        return {
            **{name: getattr(self, name) for name in self._TENSORS},
            "rounds": [[r.clusters, r.dropped, r.scored, r.best, r.bar] for r in self.rounds],
            "scored_before": self.scored_before,
        }

    def load_state_dict(self, state: Any) -> None:
        for name in self._TENSORS:
            setattr(self, name, state[name])
        self.rounds = [SearchRound(*values) for values in state["rounds"]]
        self.scored_before = int(state["scored_before"])

    def best(self, count: int) -> Tensor:
        """Indices of the ``count`` images with the highest scores, best first; a tie goes to the lower index."""
        scored = (~self.scores.isnan()).nonzero().flatten()
        return scored[torch.argsort(self.scores[scored], descending=True, stable=True)][:count]


def search_steps(clusters: int, config: CleansingConfig) -> list[tuple[int, int]]:
    """(round, first cluster's position among those left) of each step."""
    return [
        (number, first)
        for number, left in enumerate(clusters_per_round(clusters, config.drop_fraction))
        for first in range(0, left, CLUSTERS_PER_STEP)
    ]


def search(
    images: ImageSet,
    clustering: Clustering,
    localise: Localiser,
    flip_test: FlipTest,
    window: int,
    config: CleansingConfig,
    run: Run,
    *,
    seed: int,
) -> SearchState:
    """Score images of the clusters that look poisoned, with windows of side ``window``."""
    state = SearchState(len(images), len(clustering))
    schedule = clusters_per_round(len(clustering), config.drop_fraction)
    members = [_in_random_order(clustering.members(number), seed, number) for number in range(len(clustering))]
    steps = search_steps(len(clustering), config)
    for step in run.steps(STAGE, len(steps), state=state):
        number, first = steps[step]
        visited = state.alive[first : first + CLUSTERS_PER_STEP].tolist()
        _visit(state, visited, members, images, localise, flip_test, window, config)
        if step + 1 == len(steps) or steps[step + 1][0] > number:
            following = schedule[number + 1] if number + 1 < len(schedule) else schedule[-1]
            _close_round(state, following, config.poison_set)
            run.log(best=state.rounds[-1].best or 0.0, clusters=float(len(state.alive)))
    return state


def _in_random_order(members: Tensor, seed: int, cluster: int) -> Tensor:
    return members[torch.randperm(len(members), generator=generator(seed, "members", cluster))]


def _visit(
    state: SearchState,
    clusters: list[int],
    members: list[Tensor],
    images: ImageSet,
    localise: Localiser,
    flip_test: FlipTest,
    window: int,
    config: CleansingConfig,
) -> None:
    """Score the next s unseen images of each of ``clusters``, all in one batch."""
    samples = config.samples_per_cluster
    drawn = [members[c][int(state.visited[c]) : int(state.visited[c]) + samples] for c in clusters]
    chosen = torch.cat(drawn)
    if len(chosen):
        batch = images.batch(chosen, flip_test.device)
        attention = localise(batch)
        top, left = best_window(attention.maps, window)
        windows = cut(batch, top, left, window)
        result = flip_test.screened_scores(
            windows, attention.targets, first=config.first_flips, finalists=config.finalists
        )
        state.scores[chosen] = result.into if config.flip_score == "into_cluster" else result.changed
        state.changed[chosen] = result.changed
        state.places[chosen] = torch.stack([top, left], 1).cpu()
        state.targets[chosen] = attention.targets.cpu()
    for cluster, indices in zip(clusters, drawn, strict=True):
        fresh = state.scores[indices]
        state.visited[cluster] += len(indices)
        state.totals[cluster] += float(fresh.sum())
        state.latest[cluster] = _cluster_score(state, cluster, fresh, config)


def _cluster_score(state: SearchState, cluster: int, fresh: Tensor, config: CleansingConfig) -> float:
    """The round's score of a cluster from its ``fresh`` scores.

    A cluster with fewer than s unseen images left is judged by the mean of all its scores, so that a small one is
    neither punished nor dropped for having been looked at completely; an empty cluster scores lowest.
    """
    if len(fresh) == config.samples_per_cluster:
        return float(fresh.sum() if config.cluster_score == "sum" else fresh.max())
    seen = int(state.visited[cluster])
    if not seen:
        return -torch.inf
    mean = float(state.totals[cluster]) / seen
    return mean * config.samples_per_cluster if config.cluster_score == "sum" else mean


def _close_round(state: SearchState, following: int, keep: int) -> None:
    """Drop the lowest clusters, ``following`` of them stay; write the round down."""
    order = torch.argsort(state.latest[state.alive], descending=True, stable=True)
    survivors = state.alive[order[:following]].sort().values
    scores = state.scores[~state.scores.isnan()].sort(descending=True).values
    state.rounds.append(
        SearchRound(
            clusters=len(state.alive),
            dropped=len(state.alive) - len(survivors),
            scored=len(scores) - state.scored_before,
            best=float(scores[0]) if len(scores) else None,
            bar=float(scores[keep - 1]) if len(scores) >= keep else None,
        )
    )
    state.scored_before = len(scores)
    state.alive = survivors
