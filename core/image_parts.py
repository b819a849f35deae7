"""The parts of an audit's images, the same throughout: by their number and the seed alone.

    judging    what a search came to is judged on them, in the encoder as given and in every copy of it
    guard      they stop a training that spoils clean features, and say what it did
    training   searches optimise on them, and copies are trained on them

So nothing that judges a purified copy, or stops its training, has trained it. Searches and training share images: a
trigger that only acts on those it was optimised on fails on the ones that judge. What is split are images of a set, by
number: where one stands in it twice, its two may come into two parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core.random import generator
from core.types import Images, ImageSet

_LEAST, _MOST = 8, 256


@dataclass(frozen=True)
class PartSizes:
    """How many images each part has."""

    judging: int
    guard: int
    training: int


@dataclass(frozen=True)
class Parts:
    """The numbers of each part's images, 1-D int64; no two parts share one, and together they are all."""

    judging: Tensor
    guard: Tensor
    training: Tensor


def part_sizes(count: int) -> PartSizes:
    """Of ``count`` images a quarter judges and a tenth guards, at least 8 and at most 256 each; all others train.

    Of 50, the fewest that an audit takes, 12 judge, 8 guard and 30 train. Of fewer than 24 there are not 8 for every
    part: a third judges, a third guards, and the rest trains. Fewer than 3 all train, and nothing judges.
    """
    judging, guard = (min(max(_LEAST, count // share), _MOST, count // 3) for share in (4, 10))
    return PartSizes(judging, guard, count - judging - guard)


def parts_of(count: int, seed: int) -> Parts:
    """The parts of ``count`` images, each in random order."""
    sizes = part_sizes(count)
    order = torch.randperm(count, generator=generator(seed, "parts of the images"))
    judging, guard, training = order.split([sizes.judging, sizes.guard, sizes.training])
    return Parts(judging, guard, training)


def to_search(images: ImageSet, device: torch.device, seed: int) -> tuple[Images, Images]:
    """The images to search on and those to judge on, on ``device``."""
    parts = parts_of(len(images), seed)
    return images.batch(parts.training, device), images.batch(parts.judging, device)


def to_train(images: ImageSet, device: torch.device, seed: int) -> tuple[Images, Images]:
    """The images to train on and those that guard, on ``device``."""
    parts = parts_of(len(images), seed)
    return images.batch(parts.training, device), images.batch(parts.guard, device)
