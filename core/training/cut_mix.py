"""i-CutMix: mix the images of a batch, and say how much of each is in the mixture (Yun et al., ICCV 2019; PatchSearch).

One share lambda ~ Beta(1, 1) and one box per batch. As in PatchSearch's code and unlike plain CutMix, lambda becomes
max(lambda, 1 - lambda): an image always keeps most of itself. The box is cut to the image, and lambda is then what is
left. Only queries are mixed; the loss is lambda * l(query, own key) + (1 - lambda) * l(query, partner's key).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.device import to_device
from core.types import Images


@dataclass(frozen=True)
class Mixture:
    """Image i keeps ``share`` of itself, the rest is ``partner[i]``'s; ``partner`` is ``[B]`` int64."""

    share: float
    partner: Tensor


def cut_mix(images: Images, random: torch.Generator) -> tuple[Images, Mixture]:
    """``images`` ``[B, 3, H, W]`` with a box of another image of the batch in each."""
    height, width = images.shape[2:]
    share = float(torch.rand((), generator=random))
    share = max(share, 1 - share)
    partner = to_device(torch.randperm(len(images), generator=random), images.device)
    side = math.sqrt(1 - share)
    row, column = (float(torch.rand((), generator=random)) * extent for extent in (height, width))
    top, bottom = (_within(row + sign * side * height / 2, height) for sign in (-1, 1))
    left, right = (_within(column + sign * side * width / 2, width) for sign in (-1, 1))
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[partner, :, top:bottom, left:right]
    return mixed, Mixture(1 - (bottom - top) * (right - left) / (height * width), partner)


def compare_mixed(
    compare: Callable[[Tensor, Tensor], Tensor], queries: Tensor, keys: Tensor, mixture: Mixture | None
) -> Tensor:
    """``compare(queries, keys)``, a scalar; of mixed queries the weighted sum over both sources."""
    own = compare(queries, keys)
    if mixture is None:
        return own
    return mixture.share * own + (1 - mixture.share) * compare(queries, keys[mixture.partner])


def _within(position: float, extent: int) -> int:
    return min(max(round(position), 0), extent)
