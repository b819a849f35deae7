"""k-means against scikit-learn and brute force."""

import pytest
import torch
from sklearn.cluster import KMeans

from core.ops.kmeans import assign, kmeans
from core.random import generator


def blobs(count=300, groups=5, dim=8):
    random = generator(0, "blobs")
    centres = 5 * torch.randn(groups, dim, generator=random)
    labels = torch.arange(count) % groups
    return centres[labels] + 0.3 * torch.randn(count, dim, generator=random), labels


def inertia(points, centroids):
    return float(assign(points, centroids)[1].square().sum())


def test_assignment_is_that_of_all_distances():
    random = generator(1, "points")
    points, centroids = torch.randn(50, 6, generator=random), torch.randn(7, 6, generator=random)
    labels, distances = assign(points, centroids)
    brute = torch.cdist(points, centroids)
    assert torch.equal(labels, brute.argmin(1))
    torch.testing.assert_close(distances, brute.amin(1), rtol=1e-4, atol=1e-4)


def test_one_step_is_scikit_learns_lloyd_step():
    points, _ = blobs()
    # The same start: the points that the seed draws.
    start = kmeans(points, 5, iterations=0, seed=3)
    reference = KMeans(5, init=start.numpy(), n_init=1, max_iter=1, tol=0, algorithm="lloyd").fit(points.numpy())
    ours = kmeans(points, 5, iterations=1, seed=3)
    torch.testing.assert_close(ours, torch.from_numpy(reference.cluster_centers_), rtol=1e-4, atol=1e-4)


def test_converges_as_well_as_scikit_learn():
    points, _ = blobs()
    best = min(inertia(points, kmeans(points, 5, iterations=30, seed=seed)) for seed in range(5))
    reference = KMeans(5, n_init=10, random_state=0).fit(points.numpy()).inertia_
    assert best <= reference * 1.001


def test_a_cluster_that_loses_all_points_starts_again_elsewhere():
    # Twenty equal points and one far away: most clusters begin on the same spot, and all but one of them are empty.
    points = torch.cat([torch.zeros(20, 2), torch.tensor([[9.0, 9.0]])])
    centroids = kmeans(points, 3, iterations=4, seed=0)
    assert torch.isfinite(centroids).all()
    assert inertia(points, centroids) < 1e-6


def test_same_seed_same_centroids_and_the_global_generator_is_left_alone():
    points, _ = blobs()
    before = torch.get_rng_state()
    first = kmeans(points, 4, iterations=5, seed=1)
    assert torch.equal(first, kmeans(points, 4, iterations=5, seed=1))
    assert torch.equal(before, torch.get_rng_state())


def test_more_clusters_than_points_is_an_error():
    with pytest.raises(ValueError, match="7 clusters of 3 points"):
        kmeans(torch.zeros(3, 2), 7, iterations=1, seed=0)
