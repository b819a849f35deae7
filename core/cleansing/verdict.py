"""Is there a poison in the set at all? Something always ranks first, so the ranking alone does not say.

Poisoned: several of the best candidates show the same pixels in images that are otherwise unlike, and these pixels move
images to their cluster. Both are needed: a logo that many images share moves nothing, and a large natural object moves
images but is not the same twice. Inconclusive: the same pixels that move next to nothing; several windows that are not
the same and move more images than natural ones do (a patch of one plain colour is no texture to recognise); or the
search could not be carried out. Clean: none of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from core.cleansing.candidates import LEAST_GROUP
from core.cleansing.result import Candidate
from core.types import Features, ImageSet, Verdict

LEAST_FLIPS = 0.01
"""Share of the flip set that ``LEAST_GROUP`` windows of a group must move into their cluster each to be a trigger. Not
the median of the group, which the members of weaker clusters lower."""

SUSPICIOUS_FLIPS = 0.25
"""Share that no ``LEAST_GROUP`` windows may move each, even if they resemble nothing else. One natural window can: on a
clean set the strongest moved 36 %, the next 19 and 9 %."""

COLLAPSED = 0.98
"""Mean pairwise cosine of the images' features from which on an encoder tells them apart too little."""

TOO_MANY = 0.5
"""Share of a set that no cleansing may remove: a classifier that flags more has learnt something else."""


@dataclass(frozen=True)
class Judgement:
    """``triggers`` are the numbers of the groups that are triggers."""

    verdict: Verdict
    reasons: tuple[str, ...]
    triggers: tuple[int, ...] = ()


def judge(candidates: Sequence[Candidate], flip_images: int) -> Judgement:
    """The verdict on the ranked candidates of a search with ``flip_images`` flip images."""
    groups: dict[int, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.group is not None:
            groups.setdefault(candidate.group, []).append(candidate)
    triggers, reasons, idle = [], [], []
    for number, members in groups.items():
        if len(members) < LEAST_GROUP:
            continue
        side = members[0].window.side
        seen = (
            f"{len(members)} of the {len(candidates)} best windows show the same {side}x{side} pixels in images that "
            "are otherwise unlike"
        )
        acting = [member.flips for member in members if member.flips >= LEAST_FLIPS * flip_images]
        if len(acting) >= LEAST_GROUP:
            triggers.append(number)
            middle = float(torch.tensor(acting).median())
            reasons.append(
                f"{seen}, and {len(acting)} of them, pasted on others, move {middle:.0f} of {flip_images} (median) "
                "into their own cluster."
            )
        else:
            idle.append(
                f"{seen}, but pasted on others they move next to none into their cluster. It may be a watermark, or a "
                "patch that this encoder has hardly learnt: look at the pictures, or train it for longer."
            )
    if triggers:
        return Judgement(Verdict.POISONED, (*reasons, *idle), tuple(triggers))
    if idle:
        return Judgement(Verdict.INCONCLUSIVE, tuple(idle))
    strongest = max((candidate.flips for candidate in candidates), default=0.0)
    strong = [candidate for candidate in candidates if candidate.flips >= SUSPICIOUS_FLIPS * flip_images]
    if len(strong) >= LEAST_GROUP:
        return Judgement(
            Verdict.INCONCLUSIVE,
            (
                f"{len(strong)} windows move {SUSPICIOUS_FLIPS * flip_images:.0f} of {flip_images} images or more into "
                f"their clusters (at most {strongest:.0f}), which is much for natural objects, but no {LEAST_GROUP} of "
                "them show the same pixels.",
            ),
        )
    return Judgement(
        Verdict.CLEAN,
        (
            f"No pasted patch: of the {len(candidates)} windows that move most images, no {LEAST_GROUP} show the same "
            f"pixels and act. The strongest moves {strongest:.0f} of {flip_images} images into its cluster.",
        ),
    )


def unmet_preconditions(images: ImageSet, features: Features) -> tuple[str, ...]:
    """Sentences that say why nothing can be concluded; empty when all is well."""
    reasons = []
    pixels = images.pixels[:: max(1, len(images) // 2048)].flatten(1)
    plain = int((pixels.amax(1) == pixels.amin(1)).sum())
    if plain > len(pixels) // 2:
        reasons.append(f"{plain} of {len(pixels)} images looked at are of one plain colour.")
    together = float(features.mean(0).norm() ** 2)
    if together >= COLLAPSED:
        reasons.append(
            f"The encoder is collapsed: images have a mean pairwise cosine of {together:.3f}, so that their clusters "
            "mean nothing."
        )
    return tuple(reasons)
