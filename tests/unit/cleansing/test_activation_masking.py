"""Eq. 2 and 3 in closed form, and attention on the planted set."""

import torch

from core.cleansing.activation_masking import ActivationMasking, attention_maps, most_frequent, outlier_scores
from core.cleansing.clustering import clusters_of
from core.cleansing.forward import Reader
from core.cleansing.masking import draw_masks
from core.ops.kmeans import kmeans
from core.ops.windows import best_window
from tests.unit.cleansing.planted_set import covered, features, planted_set


def test_a_mask_that_changes_the_cluster_counts_fully():
    labels = torch.tensor([[4, 4, 4, 7]])
    distances = torch.tensor([[1.0, 2.0, 3.0, 0.5]])
    scores = outlier_scores(labels, distances, torch.tensor([4]))
    assert scores.tolist() == [[0.0, 0.5, 1.0, 1.0]]


def test_the_printed_formula_scales_over_all_masks():
    labels, distances = torch.tensor([[4, 4, 7]]), torch.tensor([[1.0, 2.0, 0.0]])
    assert outlier_scores(labels, distances, torch.tensor([4]), scale_all=True).tolist() == [[0.5, 1.0, 1.0]]


def test_equal_distances_say_nothing():
    scores = outlier_scores(torch.zeros(1, 3, dtype=torch.int64), torch.ones(1, 3), torch.tensor([0]))
    assert scores.tolist() == [[0.0, 0.0, 0.0]]


def test_a_tie_goes_to_the_unmasked_images_cluster():
    labels = torch.tensor([[1, 1, 2, 2], [3, 3, 3, 0]])
    assert most_frequent(labels, torch.tensor([2, 0]), 5).tolist() == [2, 3]
    assert most_frequent(labels, torch.tensor([4, 4]), 5).tolist() == [1, 3]


def test_the_attention_map_is_the_mean_score_of_the_masks_over_a_pixel():
    masks = torch.zeros(3, 2, 3, dtype=torch.bool)
    masks[0, :, :2] = masks[1, :, 1:] = masks[2, 0, :] = True
    maps = attention_maps(torch.tensor([[1.0, 0.0, 0.5]]), masks)
    # Column 0 of row 1 is under the first mask only; every pixel of row 0 is under the third as well.
    torch.testing.assert_close(maps[0], torch.tensor([[0.75, 0.5, 0.25], [1.0, 0.5, 0.0]]))


def test_an_uncovered_pixel_is_zero_and_not_nan():
    maps = attention_maps(torch.ones(1, 1), torch.tensor([[[True, False]]]))
    assert maps.tolist() == [[[1.0, 0.0]]]


def test_attention_finds_the_planted_patch():
    planted = planted_set(240)
    reader = Reader(planted.encoder, half=False, batch_size=512)
    z = features(planted)
    clustering = clusters_of(z, kmeans(z, 10, iterations=10, seed=0))
    masks = draw_masks(100, 9, (32, 32), strategy="full", positions="even", seed=0)
    localise = ActivationMasking(reader, clustering.centroids, masks, 9, fill="mean", scale_all=False)
    chosen = torch.tensor(list(planted.poisoned)[:20])
    attention = localise(planted.images.batch(chosen))
    top, left = best_window(attention.maps, 9)
    shares = [covered(planted, int(i), int(t), int(c), 9) for i, t, c in zip(chosen, top, left, strict=True)]
    assert sum(share >= 0.8 for share in shares) >= 18
    assert torch.equal(attention.targets, clustering.labels[chosen])
