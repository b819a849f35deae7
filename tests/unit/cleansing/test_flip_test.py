"""Poison scores on the planted set: by hand, and in parts."""

import torch
from torch.nn.functional import normalize

from core.cleansing.clustering import clusters_of
from core.cleansing.flip_test import FlipTest
from core.cleansing.forward import Reader
from core.ops.kmeans import assign, kmeans
from tests.unit.cleansing.planted_set import features, patch, planted_set


def world(count=240, flips=40):
    planted = planted_set(count)
    z = features(planted)
    clustering = clusters_of(z, kmeans(z, 10, iterations=10, seed=0))
    reader = Reader(planted.encoder, half=False, batch_size=64)
    return planted, clustering, FlipTest(reader, clustering, planted.images, flips, normalised=True, seed=0)


def trigger_cluster(planted, clustering):
    return int(torch.bincount(clustering.labels[list(planted.poisoned)]).argmax())


def test_the_patch_moves_all_images_and_a_grey_one_none():
    planted, clustering, test = world()
    target = trigger_cluster(planted, clustering)
    patches = torch.stack([patch().float() / 255, torch.full((3, 6, 6), 0.5)])
    scores = test.scores(patches, torch.tensor([target, target]))
    already = int((clustering.labels[clustering.nearest(40)] == target).sum())
    assert float(scores.into[0]) >= 0.8 * (40 - already)
    assert abs(float(scores.into[1])) <= 2
    assert float(scores.changed[0]) >= float(scores.into[0])
    assert scores.seen.tolist() == [40, 40]


def test_scores_do_not_depend_on_which_candidates_stand_beside():
    planted, clustering, test = world()
    patches = torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    patches[2] = patch().float() / 255
    targets = torch.full((5,), trigger_cluster(planted, clustering))
    together = test.scores(patches, targets)
    alone = torch.cat([test.scores(patches[i : i + 1], targets[i : i + 1]).into for i in range(5)])
    assert torch.equal(together.into, alone)


def test_screened_scores_are_exact_for_the_finalists_and_estimates_for_the_others():
    planted, clustering, test = world()
    target = trigger_cluster(planted, clustering)
    patches = torch.stack([patch().float() / 255, torch.full((3, 6, 6), 0.5), torch.full((3, 6, 6), 0.2)])
    targets = torch.full((3,), target)
    exact = test.scores(patches, targets)
    scores = test.screened_scores(patches, targets, first=16, finalists=0.2)
    assert scores.seen.tolist() == [40, 16, 16]
    torch.testing.assert_close(scores.into[0], exact.into[0])
    assert float(scores.into[1:].max()) < float(scores.into[0]) / 2


def test_without_a_first_part_every_candidate_sees_the_whole_flip_set():
    _, _, test = world()
    patches, targets = torch.rand(2, 3, 6, 6), torch.tensor([0, 1])
    scores = test.screened_scores(patches, targets, first=0, finalists=0.2)
    assert scores.seen.tolist() == [40, 40]
    assert torch.equal(scores.into, test.scores(patches, targets).into)


def test_unnormalised_queries_ask_for_the_largest_product():
    planted, clustering, _ = world()
    reader = Reader(planted.encoder, half=False, batch_size=64)
    test = FlipTest(reader, clustering, planted.images, 40, normalised=False, seed=0)
    raw = reader.raw(test._images)
    assert torch.equal(test._before, assign(raw, clustering.centroids)[0])
    assert not torch.equal(test._before, assign(normalize(raw, dim=1), clustering.centroids)[0])


def test_the_flip_set_takes_the_nearest_of_every_cluster_first():
    _, clustering, _ = world()
    chosen = clustering.nearest(10)
    assert sorted(clustering.labels[chosen].tolist()) == list(range(10))
    for index in chosen.tolist():
        of_cluster = clustering.distances[clustering.labels == clustering.labels[index]]
        assert float(clustering.distances[index]) == float(of_cluster.min())
    assert len(set(clustering.nearest(40).tolist())) == 40
