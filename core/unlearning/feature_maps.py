"""How far a student's feature maps are from its teacher's: the hints of Romero et al. (FitNets, ICLR 2015).

A student here is a copy of its teacher, so that maps are compared place by place, without FitNets' regressor between.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def map_gap(own: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> Tensor:
    """Squared distance of maps as a share of the teacher's squared length, mean over images and stages; a scalar.

    ``own`` and ``taught`` hold the outputs of the same stages, ``[N, ...]`` and ``[B, ...]``; the first B of the
    student's are those of the teacher's images. A share, because the scale of a stage's maps says nothing about its
    weight: BatchNorm and the next layer undo it.
    """
    gaps = []
    for stage, target in taught.items():
        target = target.float()
        places = tuple(range(1, target.ndim))
        distance = (own[stage][: len(target)].float() - target).square().sum(places)
        gaps.append((distance / target.square().sum(places).clamp_min(1e-12)).mean())
    return torch.stack(gaps).mean()
