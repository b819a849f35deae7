"""What every cleansing method returns, whatever its localiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from core.types import Verdict

FoundBy = Literal["search", "match"]

OUT_OF_REACH = (
    "Triggers that no window can hold: invisible patterns over the whole image (CTRL's spectral trigger, noise, "
    "blended images).",
    "Triggers that change from image to image, and poisons without a trigger (images put side by side).",
    "Poison that this encoder did not learn: the search asks the encoder, and what moves none of its clusters is not "
    "seen. An encoder trained on other images says nothing about these; one trained for few passes over views of "
    "changed colours has often not learnt a patch yet. Where none is given, one is trained on views that keep their "
    "colours.",
    "Fewer poisoned images than it takes to shape a cluster of their own.",
)
"""Outside this family's reach whatever the parameters; part of every result."""


@dataclass(frozen=True)
class Window:
    """A square in one image, pixels counted from its upper left corner."""

    top: int
    left: int
    side: int


@dataclass(frozen=True)
class Candidate:
    """A candidate trigger: ``window`` of image ``index`` (``name``), and what it does to the flip set.

    ``flips`` are the flip images that it moves into ``cluster``, net; ``changed`` those that change cluster at all;
    both of ``Cleansing.flip_images``; ``score`` is the one that the configuration ranks by. ``group`` numbers the
    candidates that show the same pixels, from 0; None: alone. ``found_by`` says whether the search ranked the image
    among its best, or whether it was found by the pixels it shares with such candidates. ``patch`` is
    ``[3, side, side]`` uint8, ``attention`` ``[H, W]`` fp32, both on the CPU.
    """

    rank: int
    index: int
    name: str
    window: Window
    cluster: int
    score: float
    flips: float
    changed: float
    group: int | None
    found_by: FoundBy
    patch: Tensor
    attention: Tensor


@dataclass(frozen=True)
class SearchRound:
    """One round of the search: clusters visited and then dropped, images scored in it, and after it the best score and
    the worst one that is still among the k best (flip images; None while fewer than k are scored)."""

    clusters: int
    dropped: int
    scored: int
    best: float | None
    bar: float | None


@dataclass(frozen=True)
class ScoreDistribution:
    """How often each score occurs: ``counts[i]`` images between ``edges[i]`` and ``edges[i + 1]``; ``cut`` is where the
    decision falls."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    cut: float


@dataclass(frozen=True)
class ImageFindings:
    """One value per image of the set, on the CPU.

    ``poison_score`` ``[N]`` fp32 in flip images, NaN where not scored; ``window`` ``[N, 3]`` int64 (top, left, side),
    -1 where not scored; ``cluster`` ``[N]`` int64; ``classifier_score`` ``[N]`` fp32, the poison classifier's
    probability in [0, 1], NaN where none was trained; ``match_score`` ``[N]`` fp32, at most 1, how nearly the image
    shows the pixels of a trigger that was found (``matching``), NaN where none was looked for.
    """

    poison_score: Tensor
    window: Tensor
    cluster: Tensor
    classifier_score: Tensor
    match_score: Tensor


@dataclass(frozen=True)
class Cleansing:
    """The conclusion about a set of images; the images and the encoder that were given are unchanged.

    ``keep`` ``[N]`` bool: images to train on. ``candidates`` are best first. ``distribution`` is that of the
    classifier's scores, None where no classifier was trained. ``window`` is the side of the search's windows; a
    candidate has its own. ``out_of_reach`` is what this family of methods cannot see.
    """

    method: str
    verdict: Verdict
    reasons: tuple[str, ...]
    keep: Tensor
    findings: ImageFindings
    candidates: tuple[Candidate, ...]
    rounds: tuple[SearchRound, ...]
    distribution: ScoreDistribution | None
    flip_images: int
    clusters: int
    window: int
    notes: tuple[str, ...] = ()
    out_of_reach: tuple[str, ...] = OUT_OF_REACH

    @property
    def removed(self) -> int:
        """How many images are not to be trained on."""
        return int((~self.keep).sum())

    @property
    def scored(self) -> int:
        """How many images were scored: those the search looked at, and candidates found by their pixels."""
        return int((self.findings.window[:, 0] >= 0).sum())
