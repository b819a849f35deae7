"""The poison classifier: an ensemble of small residual networks that tell triggered images from others (Sec. IV-D).

The paper says "a ResNet"; PatchSearch's code takes torchvision's with one basic block per stage (ResNet-10), five of
them, and the mean of their logits. Here the same blocks, but narrower (a patch is an easy thing to see, and the images
are few), with a stem for small images, and with the *maximum* over places in the end instead of the mean: a trigger is
in one place, and a mean over places dilutes it the more the larger the image is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.device import mixed_precision
from core.random import derive_seed
from core.types import Images, ImageSet

SMALL_IMAGE = 96
"""Images up to so many pixels keep their full size through the first stage but one."""


class PoisonNet(nn.Module):
    """Images ``[B, 3, H, W]`` in [0, 1] to logits ``[B]``; above 0 is poisoned."""

    def __init__(self, width: int, image_side: int) -> None:
        super().__init__()
        stem: list[nn.Module]
        if image_side <= SMALL_IMAGE:
            stem = [nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        else:
            stem = [nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            stem.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.stem = nn.Sequential(*stem)
        self.stages = nn.Sequential(
            _block(width, width, 1), _block(width, 2 * width, 2), _block(2 * width, 4 * width, 2)
        )
        self.head = nn.Linear(4 * width, 1)

    def forward(self, images: Images) -> Tensor:
        maps: Tensor = self.stages(self.stem((images - 0.5) / 0.25))
        logits: Tensor = self.head(maps.amax((2, 3)))
        return logits[:, 0]


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    from torchvision.models.resnet import BasicBlock  # seconds to import: see core.encoders.architectures

    shortcut = None
    if stride > 1 or inputs != outputs:
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
    block: nn.Module = BasicBlock(inputs, outputs, stride, shortcut)
    return block


class PoisonEnsemble(nn.Module):
    """Several :class:`PoisonNet` from different initial weights, trained on one stream of images."""

    def __init__(self, members: int, width: int, image_side: int, *, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(seed, "poison classifier"))
            self.members = nn.ModuleList(PoisonNet(width, image_side) for _ in range(members))

    def forward(self, images: Images) -> Tensor:
        """Each member's logits, ``[members, B]``."""
        return torch.stack([member(images) for member in self.members])

    @torch.no_grad()
    def probability(self, images: Images) -> Tensor:
        """Probability of poison ``[B]`` fp32, from the mean of the members' logits, in evaluation mode."""
        self.eval()
        with mixed_precision(images.device):
            logits: Tensor = self(images.contiguous(memory_format=torch.channels_last))
        return logits.float().mean(0).sigmoid()


def probabilities(ensemble: PoisonEnsemble, images: ImageSet, indices: Tensor, device: torch.device) -> Tensor:
    """:meth:`PoisonEnsemble.probability` of ``images[indices]``, ``[len(indices)]`` on the CPU."""
    parts = [ensemble.probability(images.batch(part, device)).cpu() for part in indices.split(512)]
    return torch.cat(parts) if parts else torch.empty(0)
