"""The iterative search: its schedule, its bookkeeping, and what it finds in the planted set."""

from itertools import pairwise

import pytest
import torch

from core.cleansing.activation_masking import Attention
from core.cleansing.clustering import Clustering
from core.cleansing.config import CleansingConfig
from core.cleansing.flip_test import FlipScores
from core.cleansing.schedule import clusters_per_round
from core.cleansing.search import search, search_steps
from core.run import QuietRun
from tests.unit.cleansing.planted_set import planted_set


def test_the_published_schedule():
    rounds = clusters_per_round(1000, 0.25)
    assert len(rounds) == 23 and sum(rounds) == 4027  # 8,054 images at s = 2, the paper's "approximately 8,000"
    assert rounds[:4] == (1000, 750, 563, 423) and rounds[-3:] == (5, 4, 3)


@pytest.mark.parametrize(("clusters", "fraction"), [(1, 0.5), (3, 0.25), (40, 0.9)])
def test_every_schedule_ends_and_never_grows(clusters, fraction):
    rounds = clusters_per_round(clusters, fraction)
    assert rounds[0] == clusters and rounds[-1] >= 1
    assert all(later < earlier for earlier, later in pairwise(rounds))


class Scripted:
    """A flip test that gives an image the score of its cluster, and remembers which images it was asked about."""

    device = torch.device("cpu")

    def __init__(self, images, score_of):
        self._score_of = score_of
        self.batches = []

    def screened_scores(self, patches, targets, *, first, finalists):
        self.batches.append(targets.tolist())
        into = torch.tensor([self._score_of[t] for t in targets.tolist()])
        return FlipScores(into, 2 * into, torch.full((len(into),), 9.0))


def scripted_search(labels, score_of, **settings):
    images = planted_set(len(labels)).images
    labels = torch.tensor(labels)
    clusters = int(labels.max()) + 1
    clustering = Clustering(torch.eye(clusters), labels, torch.zeros(len(labels)))
    where = {images.batch(torch.tensor([i])).sum().item(): int(labels[i]) for i in range(len(labels))}

    def localise(batch):
        targets = torch.tensor([where[image[None].sum().item()] for image in batch])
        return Attention(torch.zeros(len(batch), 32, 32), targets)

    test = Scripted(images, score_of)
    config = CleansingConfig(poison_set=2, **settings)
    return search(images, clustering, localise, test, 9, config, QuietRun(), seed=0), test


def test_the_lowest_clusters_are_dropped_and_no_image_is_scored_twice():
    labels = [i % 8 for i in range(160)]
    state, test = scripted_search(labels, {c: float(c) for c in range(8)})
    assert [r.clusters for r in state.rounds] == [8, 6, 5, 4, 3]
    assert [r.dropped for r in state.rounds] == [2, 1, 1, 1, 0]
    assert state.alive.tolist() == [5, 6, 7]
    visits = torch.bincount(torch.tensor([t for batch in test.batches for t in batch]), minlength=8)
    assert visits.tolist() == [2, 2, 4, 6, 8, 10, 10, 10]
    assert int((~state.scores.isnan()).sum()) == int(visits.sum()) == sum(r.scored for r in state.rounds)
    assert state.rounds[-1].best == 7.0 and state.rounds[-1].bar == 7.0


def test_a_small_cluster_that_was_seen_completely_is_judged_by_what_was_seen():
    labels = [0] * 3 + [i % 4 + 1 for i in range(100)]
    state, test = scripted_search(labels, {0: 9.0, 1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0})
    assert 0 in state.alive.tolist()
    assert sum(batch.count(0) for batch in test.batches) == 3
    assert state.visited[0] == 3 and state.totals[0] == 27


def test_an_empty_cluster_is_dropped_first():
    labels = [1 + i % 4 for i in range(60)]
    state, _ = scripted_search(labels, dict.fromkeys(range(5), 0.0))
    assert 0 not in state.alive.tolist()


def test_the_score_can_count_every_change():
    state, _ = scripted_search([0, 1] * 20, {0: 1.0, 1: 3.0}, flip_score="changed")
    assert sorted(set(state.scores[~state.scores.isnan()].tolist())) == [2.0, 6.0]


def test_the_best_images_are_in_order_and_ties_keep_the_sets_order():
    state, _ = scripted_search([i % 4 for i in range(40)], {0: 5.0, 1: 7.0, 2: 5.0, 3: -1.0})
    best = state.best(100)
    assert torch.equal(state.scores[best], state.scores[best].sort(descending=True).values)
    fives = best[state.scores[best] == 5]
    assert torch.equal(fives, fives.sort().values)


def test_the_number_of_steps_is_known_beforehand():
    assert len(search_steps(100, CleansingConfig())) == sum(-(-left // 32) for left in clusters_per_round(100, 0.25))
