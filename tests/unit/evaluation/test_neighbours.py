"""Weighted nearest neighbours against scikit-learn."""

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional

from core.evaluation.neighbours import predict_by_neighbours


def test_votes_are_scikit_learns_with_exponential_weights():
    random = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 6, generator=random)
    labels = torch.arange(200) % 4
    bank = functional.normalize(centres[labels] + torch.randn(200, 6, generator=random), dim=1)
    queries = functional.normalize(centres[labels] + torch.randn(200, 6, generator=random), dim=1)
    # On unit vectors cos = 1 - d^2/2, so exp(cos/tau) is a function of scikit-learn's distance.
    oracle = KNeighborsClassifier(15, weights=lambda d: np.exp((1 - d**2 / 2) / 0.1))
    expected = oracle.fit(bank.numpy(), labels.numpy()).predict(queries.numpy())
    found = predict_by_neighbours(queries, bank, labels, 4, neighbours=15, temperature=0.1)
    assert (found.numpy() == expected).mean() > 0.995


def test_small_bank_lets_all_vote():
    bank = torch.eye(3)
    found = predict_by_neighbours(torch.eye(3), bank, torch.tensor([2, 0, 1]), 3, neighbours=200, temperature=0.1)
    assert found.tolist() == [2, 0, 1]
