"""The flip test: how many images move to a candidate's cluster when its window is pasted on them (PoisonCAM Sec. IV-C).

This is where most of the search's time goes, so: the flip set stays on the device, every candidate is pasted at the
same random places (common random numbers: less variance between candidates, and the same result in any order), several
candidates go through the encoder as one batch, and after a first part of the flip set only the best of them go on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from core.cleansing.clustering import Clustering
from core.cleansing.forward import Reader
from core.device import to_device
from core.ops.kmeans import assign
from core.ops.windows import paste
from core.random import generator
from core.types import Images, ImageSet


@dataclass(frozen=True)
class FlipScores:
    """Of each candidate, in flip images, ``[M]`` fp32 on the CPU: ``into`` its own cluster, net (after - before);
    ``changed`` cluster at all; ``seen``, how many images it was pasted on. Scores are scaled to the whole flip set."""

    into: Tensor
    changed: Tensor
    seen: Tensor


class FlipTest:
    """``count`` images, the nearest to each centroid of ``clustering``, in random order: any first part is a sample.

    ``normalised`` False asks for the nearest centroid of the features as they are, as PatchSearch's published code
    does: the centroids are those of unit features, and the answer is then the largest product, not the nearest one.
    """

    def __init__(
        self, reader: Reader, clustering: Clustering, images: ImageSet, count: int, *, normalised: bool, seed: int
    ) -> None:
        random = generator(seed, "flip set")
        flip_set = clustering.nearest(count)
        chosen = flip_set[torch.randperm(len(flip_set), generator=random)]
        self._reader = reader
        self._read = reader.unit if normalised else reader.raw
        self._centroids = clustering.centroids
        self._images = images.batch(chosen, reader.device)
        self._places = torch.rand(len(chosen), 2, generator=random).to(reader.device)
        self._before, _ = assign(self._read(self._images), self._centroids)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def device(self) -> torch.device:
        """Where flip set and encoder are."""
        return self._reader.device

    def scores(self, patches: Images, targets: Tensor) -> FlipScores:
        """Scores of ``patches`` ``[M, 3, w, w]`` with their own clusters ``targets`` ``[M]``, on the whole flip set."""
        return self._part(patches, targets, slice(0, len(self)))

    def screened_scores(self, patches: Images, targets: Tensor, *, first: int, finalists: float) -> FlipScores:
        """The same, but only the share ``finalists`` of the candidates that did best on the first ``first`` flip images
        see the rest; the others' scores are those of the first part, scaled. ``first`` 0: all see everything.
        """
        if not 0 < first < len(self) or not len(patches):
            return self.scores(patches, targets)
        early = self._part(patches, targets, slice(0, first))
        order = torch.argsort(early.into, descending=True, stable=True)[: math.ceil(finalists * len(patches))]
        chosen = order[early.into[order] > 0]  # what has moved nothing so far is not worth another look
        late = self._part(
            patches[to_device(chosen, patches.device)],
            targets[to_device(chosen, targets.device)],
            slice(first, len(self)),
        )
        share = first / len(self)
        into, changed, seen = early.into.clone(), early.changed.clone(), early.seen.clone()
        into[chosen] = share * early.into[chosen] + (1 - share) * late.into
        changed[chosen] = share * early.changed[chosen] + (1 - share) * late.changed
        seen[chosen] = len(self)
        return FlipScores(into, changed, seen)

    @torch.no_grad()
    def _part(self, patches: Images, targets: Tensor, part: slice) -> FlipScores:
        flips, before, places = self._images[part], self._before[part], self._places[part]
        count = len(flips)
        if not len(patches):
            return FlipScores(torch.empty(0), torch.empty(0), torch.empty(0))
        room = torch.tensor([flips.shape[2], flips.shape[3]], device=flips.device) - patches.shape[-1] + 1
        top, left = (places * room).long().unbind(1)
        into, changed = [], []
        together = max(1, self._reader.at_once(flips) // max(1, count))
        for patch, target in zip(patches.split(together), targets.split(together), strict=True):
            copies = len(patch)
            pasted = paste(
                flips.repeat(copies, 1, 1, 1),
                patch.repeat_interleave(count, 0),
                top.repeat(copies),
                left.repeat(copies),
            )
            after = assign(self._read(pasted), self._centroids)[0].view(copies, count)
            arrived = (after == target[:, None]).sum(1) - (before == target[:, None]).sum(1)
            into.append(arrived)
            changed.append((after != before).sum(1))
        scale = len(self) / max(1, count)
        seen = torch.full((len(patches),), float(count))
        return FlipScores(torch.cat(into).float().cpu() * scale, torch.cat(changed).float().cpu() * scale, seen)
