"""How far a student's feature maps are from its teacher's: the hints of Romero et al. (FitNets, ICLR 2015).

A student here is a copy of its teacher, so that maps are compared place by place, without FitNets' regressor between.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.linalg import vector_norm


def map_gap(own: Mapping[str, Tensor], taught: Mapping[str, Tensor]) -> Tensor:
    """Squared distance of maps as a share of the teacher's squared length, mean over images and stages; a scalar.

    ``own`` and ``taught`` hold the outputs of the same stages, ``[N, ...]`` and ``[B, ...]``; the first B of the
    student's are those of the teacher's images. A share, because the scale of a stage's maps says nothing about its
    weight: BatchNorm and the next layer undo it. Gradients go to ``own`` alone.
    """
    return torch.stack([_stage_gap(own[stage], target) for stage, target in taught.items()]).mean()


def _stage_gap(own: Tensor, taught: Tensor) -> Tensor:
    gap: Tensor = _StageGap.apply(own, taught)
    return gap


class _StageGap(torch.autograd.Function):
    """mean_i |own_i - taught_i|^2 / |taught_i|^2 over the teacher's B images.

    By hand, since maps are the largest tensors of a step: its gradient 2 (own_i - taught_i) / (B |taught_i|^2) is
    written once, where automatic differentiation of the same line would go over them several times.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, own: Tensor, taught: Tensor) -> Tensor:
        target = taught.float()
        places = tuple(range(1, target.ndim))
        difference = own[: len(target)].float() - target
        squared_length = vector_norm(target, dim=places, keepdim=True).square().clamp_min(1e-12)
        ctx.save_for_backward(own, difference, squared_length)
        gap: Tensor = (vector_norm(difference, dim=places, keepdim=True).square() / squared_length).mean()
        return gap

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gap_gradient: Tensor) -> tuple[Tensor, None]:
        own, difference, squared_length = ctx.saved_tensors
        images = len(difference)
        gradient = torch.empty_like(own)
        torch.mul(difference, 2 * gap_gradient / images / squared_length, out=gradient[:images])
        gradient[images:] = 0
        return gradient, None
