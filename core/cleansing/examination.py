"""What a candidate window does: its exact scores on the whole flip set, and the map that says why it was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.cleansing.activation_masking import Attention
from core.cleansing.config import CleansingConfig
from core.cleansing.flip_test import FlipTest
from core.cleansing.result import Candidate, FoundBy, Window
from core.cleansing.search import Localiser
from core.ops.windows import cut
from core.run import Run
from core.types import ImageSet


@dataclass(frozen=True)
class Place:
    """A candidate's window, and the number of its group (None: alone)."""

    window: Window
    group: int | None


@dataclass(frozen=True)
class Examination:
    """Makes candidates of places: pastes what is there on the flip set and asks the localiser for a map."""

    images: ImageSet
    localise: Localiser
    flip_test: FlipTest
    config: CleansingConfig
    run: Run

    @property
    def device(self) -> torch.device:
        """Where flip set and encoder are."""
        return self.flip_test.device

    def __call__(
        self, stage: str, indices: Tensor, places: Sequence[Place], clusters: Tensor, *, found_by: FoundBy
    ) -> list[Candidate]:
        """A candidate for each of the images ``indices`` ``[M]`` of ``clusters`` ``[M]``, both on the CPU, in their
        order and without ranks."""
        into, changed = torch.zeros(len(indices)), torch.zeros(len(indices))
        maps: list[Tensor] = [torch.empty(0)] * len(indices)
        sides = sorted({place.window.side for place in places})
        for step in self.run.steps(stage, len(sides)):
            chosen = torch.tensor([i for i, place in enumerate(places) if place.window.side == sides[step]])
            windows = [places[i].window for i in chosen.tolist()]
            top, left = torch.tensor([w.top for w in windows]), torch.tensor([w.left for w in windows])
            batch = self.images.batch(indices[chosen], self.device)
            attention: Attention = self.localise(batch)
            scores = self.flip_test.scores(cut(batch, top, left, sides[step]), clusters[chosen].to(self.device))
            into[chosen], changed[chosen] = scores.into, scores.changed
            for i, attended in zip(chosen.tolist(), attention.maps.cpu(), strict=True):
                maps[i] = attended
        return [
            self._candidate(int(index), place, int(cluster), float(flips), float(moved), found_by, attended)
            for index, place, cluster, flips, moved, attended in zip(
                indices, places, clusters, into, changed, maps, strict=True
            )
        ]

    def _candidate(
        self, index: int, place: Place, cluster: int, flips: float, changed: float, found_by: FoundBy, attention: Tensor
    ) -> Candidate:
        at = place.window
        return Candidate(
            rank=0,
            index=index,
            name=self.images.names[index],
            window=at,
            cluster=cluster,
            score=flips if self.config.flip_score == "into_cluster" else changed,
            flips=flips,
            changed=changed,
            group=place.group,
            found_by=found_by,
            patch=self.images.pixels[index, :, at.top : at.top + at.side, at.left : at.left + at.side].clone(),
            attention=attention,
        )


def ranked(candidates: Sequence[Candidate], config: CleansingConfig) -> tuple[Candidate, ...]:
    """The candidates by their scores, those of groups first if the configuration says so; of equal ones the first."""
    order = sorted(candidates, key=lambda c: c.score, reverse=True)
    if config.groups_first:
        order.sort(key=lambda c: c.group is None)
    return tuple(replace(candidate, rank=rank) for rank, candidate in enumerate(order, start=1))


def inside(top: int, left: int, side: int, height: int, width: int) -> Window:
    """The window, moved so far that it lies in the image."""
    return Window(min(max(top, 0), height - side), min(max(left, 0), width - side), side)


def window_on(corner: Tensor, template: Tensor, fixed: int | None, height: int, width: int) -> Window:
    """The window at ``corner`` (top, left), where ``template`` ``[3, s, s]`` is: as large as it, or of side ``fixed``
    around it."""
    top, left = corner.tolist()
    side = fixed or template.shape[-1]
    spare = (side - template.shape[-1]) // 2
    return inside(top - spare, left - spare, side, height, width)
