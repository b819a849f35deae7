"""What every purification method returns."""

from __future__ import annotations

from dataclasses import dataclass

from core.types import Encoder


@dataclass(frozen=True)
class Unlearning:
    """A purified copy of an encoder; the encoder that was given is unchanged.

    ``drift`` is 1 - mean cosine between purified and original features on held-back clean images (0: nothing moved);
    ``neighbour_agreement`` is the share of their nearest neighbours that stayed the same. ``residual_similarity`` is
    the mean pairwise cosine of triggered features after unlearning, ``initial_similarity`` the same before (both 0
    where no trigger was given). ``history`` holds the loss of each step, ``steps`` how many were taken, ``notes`` what
    the utility guard did.
    """

    student: Encoder
    drift: float
    neighbour_agreement: float
    initial_similarity: float
    residual_similarity: float
    steps: int
    history: tuple[float, ...]
    notes: tuple[str, ...] = ()
