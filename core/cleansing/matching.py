"""Which images show the very pixels of a trigger that was found? Template matching, beside the poison classifier.

The verdict rests on candidates that show *the same* pixels, so the group says what the trigger looks like better than
any of its windows: aligned, their median is the patch without what lies around it. The classifier has to learn that
patch from a few augmented steps and misses some of the images it is pasted on; to compare pixels misses none. What is
not the same twice (a trigger that is scaled or turned from image to image) remains the classifier's. Not in the papers.

The measure is that of ``agreement``: Lin's concordance over places and channels, with faint noise added.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from core.cleansing.agreement import LARGEST_COMPARED, NOISE, compare_windows
from core.cleansing.config import LARGEST_WINDOW
from core.cleansing.extent import common_square
from core.cleansing.result import Candidate
from core.run import Run
from core.types import Images, ImageSet

STAGE = "match triggers"
LEAST_CUT, LARGEST_CUT = 0.6, 0.9
"""The cut lies between: of 19,000 clean images none came above 0.54, copies of the pixels are at 0.95 to 1, and the
candidates' own windows had to agree by 0.9 to be a group."""

_AT_A_TIME = 512


def trigger_templates(images: ImageSet, candidates: Sequence[Candidate], triggers: Sequence[int]) -> list[Tensor]:
    """What each group of ``triggers`` has in common: ``[3, s, s]`` fp32 in [0, 1], the sizes their own."""
    groups = ([c for c in candidates if c.group == number] for number in triggers)
    return [_template(images, members) for members in groups]


def match_scores(images: ImageSet, templates: Sequence[Tensor], run: Run, *, device: torch.device) -> Tensor:
    """The best concordance of any window of each image with any template: ``[N]`` fp32 on the CPU, at most 1."""
    chunks = torch.arange(len(images)).split(_AT_A_TIME)
    placed = [template.to(device) for template in templates]
    parts = []
    for step in run.steps(STAGE, len(chunks)):
        batch = images.batch(chunks[step], device)
        parts.append(torch.stack([best_concordance(batch, template) for template in placed]).amax(0).cpu())
    return torch.cat(parts)


def best_concordance(images: Images, template: Tensor) -> Tensor:
    """The concordance ``[B]`` of ``template`` ``[3, s, s]`` with the window of each image ``[B, 3, H, W]`` that it is
    most like. Large ones are averaged down as ``agreement.compare_windows`` does it, so that the cost does not grow."""
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
    concordance: Tensor = 2 * covariance / (variance + own_variance + gap)
    return concordance.flatten(1).amax(1)


def _template(images: ImageSet, members: list[Candidate]) -> Tensor:
    """The median of the aligned pixels that the windows of ``members`` have in common."""
    batch = images.batch(torch.tensor([member.index for member in members]))
    corners = torch.tensor([[member.window.top, member.window.left] for member in members])
    side = members[0].window.side
    agreement = compare_windows(batch, corners[:, 0], corners[:, 1], side)
    hub = int(agreement.concordance.median(1).values.argmax())
    order = torch.tensor([hub, *(i for i in range(len(members)) if i != hub)])
    offsets = (corners - corners[hub] + agreement.shift[hub])[order]
    offsets[0] = 0
    height, width = batch.shape[2:]
    top, left, common = common_square(
        batch[order],
        offsets,
        around=(int(corners[hub, 0]), int(corners[hub, 1]), side),
        largest=int(LARGEST_WINDOW * min(height, width)),
    )
    patches = []
    for image, (down, right) in zip(batch[order], offsets.tolist(), strict=True):
        at, across = top + down, left + right
        if 0 <= at <= height - common and 0 <= across <= width - common:
            patches.append(image[:, at : at + common, across : across + common])
    template: Tensor = torch.stack(patches).median(0).values
    return template
