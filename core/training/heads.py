"""Projection heads: what contrastive trainers put behind the encoder and throw away afterwards."""

from __future__ import annotations

from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Two linear layers with a ReLU between them, and BatchNorm before it where ``batch_norm`` says so: SimCLR's head
    with, MoCo v2's without. Both are lightly's, weight for weight, without the package.

    Shapes: ``[B, feature_dim]`` to ``[B, projection_dim]``; the hidden layer is ``feature_dim`` wide.
    """

    def __init__(self, feature_dim: int, projection_dim: int, *, batch_norm: bool) -> None:
        super().__init__()
        # BatchNorm has a bias of its own.
        hidden = [nn.Linear(feature_dim, feature_dim, bias=not batch_norm)]
        normalised = [nn.BatchNorm1d(feature_dim)] if batch_norm else []
        self.layers = nn.Sequential(*hidden, *normalised, nn.ReLU(), nn.Linear(feature_dim, projection_dim))

    def forward(self, features: Tensor) -> Tensor:
        projections: Tensor = self.layers(features)
        return projections
