"""Weighted k-nearest neighbours: a quick monitor of an encoder, with nothing to fit."""

from __future__ import annotations

import torch
from torch import Tensor

from core.types import Features

_CHUNK = 1024


def predict_by_neighbours(
    features: Features,
    bank: Features,
    bank_labels: Tensor,
    classes: int,
    *,
    neighbours: int = 200,
    temperature: float = 0.5,
) -> Tensor:
    """The class of each of ``features`` ``[N, D]`` by its ``neighbours`` most similar in ``bank`` ``[M, D]``, ``[N]``
    int64.

    Rows are unit vectors. Neighbours vote with weight exp(cosine / ``temperature``): k = 200 and 0.5 in BadEncoder and
    DECREE, 0.1 in CTRL. With fewer than ``neighbours`` in the bank, all vote.
    """
    predicted = []
    for chunk in features.split(_CHUNK):
        similarity, nearest = (chunk @ bank.T).topk(min(neighbours, len(bank)), dim=1)
        weight = (similarity / temperature).exp()
        # Summed into place: one-hot votes would take k x classes numbers per image, gigabytes for a thousand classes.
        votes = torch.zeros(len(chunk), classes, dtype=weight.dtype, device=weight.device)
        predicted.append(votes.scatter_add_(1, bank_labels[nearest], weight).argmax(1))
    return torch.cat(predicted)
