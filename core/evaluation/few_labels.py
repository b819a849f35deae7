"""A few images of each class, drawn by a seed: the labels of a 1 % probe, the images of a quick monitor."""

from __future__ import annotations

import torch
from torch import Tensor

from core.random import generator


def stratified(labels: Tensor, share: float, seed: int, *keys: str | int) -> Tensor:
    """Indices of ``share`` (0..1] of each class in ``labels`` ``[N]``, at least one image of each, sorted, 1-D int64.

    The draw of a class depends on (``seed``, ``keys``, class) alone, and a larger share holds a smaller one.

    Raises:
        ValueError: a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"{share} is not a share")
    labels = labels.cpu()
    chosen = []
    for label in labels.unique().tolist():
        members = torch.where(labels == label)[0]
        order = torch.randperm(len(members), generator=generator(seed, *keys, label))
        chosen.append(members[order[: max(1, round(share * len(members)))]])
    return torch.cat(chosen).sort().values
