"""Which images show the very pixels of a trigger that was found? Template matching, beside the poison classifier.

The verdict rests on candidates that show *the same* pixels, so the group says what the trigger looks like better than
any of its windows: aligned, their median is the patch without what lies around it (``extent.common_pixels``), here a
*template*. The classifier has to learn that patch from a few augmented steps and misses some of the images it is pasted
on; to compare pixels misses none. What is not the same twice (a trigger that is scaled or turned from image to image)
remains the classifier's. Not in the papers.

The measure is that of ``agreement``: Lin's concordance over places and channels, with faint noise added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from core.cleansing.agreement import LARGEST_COMPARED, NOISE
from core.run import Run
from core.types import Images, ImageSet

STAGE = "match triggers"
LEAST_CUT, LARGEST_CUT = 0.6, 0.9
"""The cut lies between: of 19,000 clean images none came above 0.54, copies of the pixels were at 0.98 to 1, and the
candidates' own windows had to agree by 0.9 to be a group."""

_AT_A_TIME = 512


@dataclass(frozen=True)
class Matches:
    """Of every image the window that is most like any template, on the CPU: ``score`` ``[N]`` fp32, its concordance, at
    most 1; ``template`` ``[N]`` int64, the number of the template; ``corner`` ``[N, 2]`` int64, top and left."""

    score: Tensor
    template: Tensor
    corner: Tensor


def find_matches(images: ImageSet, templates: Sequence[Tensor], run: Run, *, device: torch.device) -> Matches:
    """Compare every window of every image with every template ``[3, s, s]``, of which there is at least one."""
    chunks = torch.arange(len(images)).split(_AT_A_TIME)
    placed = [template.to(device) for template in templates]
    scores, corners = [], []
    for step in run.steps(STAGE, len(chunks)):
        batch = images.batch(chunks[step], device)
        found = [best_match(batch, template) for template in placed]
        scores.append(torch.stack([concordance for concordance, _ in found]).cpu())
        corners.append(torch.stack([corner for _, corner in found]).cpu())
    score, template = torch.cat(scores, 1).max(0)
    return Matches(score, template, torch.cat(corners, 1)[template, torch.arange(len(images))])


def best_match(images: Images, template: Tensor) -> tuple[Tensor, Tensor]:
    """Where ``template`` ``[3, s, s]`` is most like a window of each image ``[B, 3, H, W]``: the concordance ``[B]``,
    and the window's top and left ``[B, 2]``. Large templates are averaged down as ``agreement.compare_windows`` does
    it, so that the cost does not grow."""
    step = max(1, round(template.shape[-1] / LARGEST_COMPARED))
    small = functional.avg_pool2d(template[None], step, stride=1)[0, :, ::step, ::step]
    averaged = functional.avg_pool2d(images, step, stride=1)
    own_mean = small.mean((1, 2))
    centred = small - own_mean[:, None, None]
    covariance = functional.conv2d(averaged, centred[None], dilation=step)[:, 0] / centred.numel()
    box = torch.full_like(small[:, None], 1 / small[0].numel())
    mean = functional.conv2d(averaged, box, dilation=step, groups=3)
    square = functional.conv2d(averaged.square(), box, dilation=step, groups=3)
    variance = (square - mean.square()).mean(1).clamp_min(0) + NOISE**2
    gap = (mean - own_mean[:, None, None]).square().mean(1)
    own_variance = centred.square().mean() + NOISE**2
    concordance = 2 * covariance / (variance + own_variance + gap)
    best, place = concordance.flatten(1).max(1)
    return best, torch.stack([place // concordance.shape[2], place % concordance.shape[2]], 1)
