"""What an audit costs, counted in images that go through the encoder: the currency of every stage plan.

A plan is made from a method's parameters and a :class:`Workload` alone, without the encoder. Counts do not depend on
the machine; what one image costs there is measured (``core.forecast.probe``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from core.image_parts import PartSizes, part_sizes


@dataclass(frozen=True)
class Workload:
    """How many ``images`` an audit works with, and their ``height`` and ``width`` in pixels."""

    images: int
    height: int
    width: int

    @property
    def parts(self) -> PartSizes:
        """How many of the images judge, guard, and are searched and trained on."""
        return part_sizes(self.images)


TYPICAL = Workload(500, 32, 32)
"""What shares of the time are computed for where nothing better is known."""


@dataclass(frozen=True)
class Passes:
    """Images through the encoder: ``forward`` only, with a ``backward`` pass to their pixels, and in ``training`` with
    one to the weights too. An image counts once, under what is done with it."""

    forward: float = 0.0
    backward: float = 0.0
    training: float = 0.0

    @property
    def images(self) -> float:
        """Passes of any kind."""
        return self.forward + self.backward + self.training

    @property
    def weight(self) -> float:
        """Relative cost where nothing was measured: a backward pass to the pixels costs as much as a forward pass, one
        to the weights as much again."""
        return self.forward + 2 * self.backward + 3 * self.training

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forward + other.forward, self.backward + other.backward, self.training + other.training)

    def times(self, factor: float) -> Passes:
        """So many times as much."""
        return Passes(factor * self.forward, factor * self.backward, factor * self.training)


def total(passes: Iterable[Passes]) -> Passes:
    """The sum of ``passes``."""
    whole = Passes()
    for one in passes:
        whole = whole + one
    return whole
