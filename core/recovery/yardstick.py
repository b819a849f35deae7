"""Which clean encoders a suspect is held against, and what to say where they are not of its own kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.config import MethodConfig
from core.recovery.bands import Band, band_for, shipped_bands
from core.recovery.detection import About, Caveat
from core.recovery.growth import GROWTH, growth, growth_null, is_unlike
from core.recovery.hypotheses import AdditivePattern
from core.recovery.nulls import Null, family_of, remaining_gap
from core.recovery.verdict import ALARM, DOUBT
from core.types import Encoder


@dataclass(frozen=True)
class Yardstick:
    """``band`` as it applies to an encoder of ``family``. ``caveats`` are sentences for the report; none where clean
    encoders of the suspect's own family were searched with the same parameters."""

    band: Band
    family: str
    caveats: tuple[Caveat, ...]

    def null(self, key: str) -> Null:
        """What clean encoders score with triggers of the kind ``key``.

        A kind that was searched with other bounds than the band's has no sample of its own (:meth:`measures` says so):
        the widest one of the band's kinds stands in.
        """
        own = self.band.null(key, self.family)
        if own is not None:
            return own
        keys = {key for one in self.band.observed for key in one.scores if not key.startswith(GROWTH)}
        others = [null for key in sorted(keys) if (null := self.band.null(key, self.family)) is not None]
        return max(others, key=lambda null: null.limit(0.01))

    def measures(self, key: str) -> bool:
        """Whether clean encoders were searched for triggers of this kind with these bounds."""
        return self.band.null(key, self.family) is not None

    def most(self, key: str) -> float:
        """The largest x that a clean encoder of any family has with triggers of this kind."""
        seen = [one.scores[key] for one in self.band.observed if key in one.scores]
        return max(seen, default=self.null(key).mean)

    def growth(self, pattern: AdditivePattern) -> Null | None:
        """How clean encoders' response to ``pattern`` grows with the strength; None where the band does not say."""
        return growth_null(pattern, self.family, self.band.observed)

    def why_a_stranger(self, pattern: AdditivePattern, full: float, half: float, clean: float) -> str | None:
        """A sentence where the suspect does not answer weak patterns as the clean encoders of its own family do; None
        where it does, or where that cannot be told.

        ``full`` and ``half`` are the similarities that the additive ``pattern`` reaches at its whole strength and at
        half of it, ``clean`` that of clean images. A pattern beyond its own limit is saturated, and says nothing.
        """
        null, seen = self.growth(pattern), growth(full, half, clean)
        saturated = remaining_gap(full, clean) >= self.null(pattern.key).limit(DOUBT)
        if self.caveats or null is None or seen is None or saturated or not is_unlike(seen, null, ALARM):
            return None
        return (
            f"It is not like the clean encoders of its family ({self.family}), which the thresholds come from: with "
            f"twice the strength of a weak pattern its response doubles {seen:.2f} times, theirs {null.mean:.2f} "
            "times. An encoder that was trained without changes of colour is such a case: patches of one colour "
            "outweigh its images. No score calls such an encoder backdoored."
        )


def yardstick_for(encoder: Encoder, config: MethodConfig, bands: Sequence[Band] | None = None) -> Yardstick:
    """The band of these parameters, or of the default ones with a caveat; ``bands`` are the shipped ones."""
    known = shipped_bands() if bands is None else bands
    band = band_for(config, known)
    caveats = []
    if band is None:
        band = known[0]
        caveats.append(
            Caveat(
                About.PARAMETERS,
                "The thresholds were measured with the default parameters; with these, clean encoders may score "
                "otherwise.",
            )
        )
    family = family_of(encoder.architecture, encoder.image_size)
    if not any(one.family == family for one in band.observed):
        caveats.append(
            Caveat(
                About.FAMILY,
                f"No clean encoder of its family ({family}) was measured for the thresholds, which are therefore those "
                "of all families together, and wide.",
            )
        )
    return Yardstick(band, family, tuple(caveats))


def is_measured(encoder: Encoder, config: MethodConfig) -> bool:
    """Whether clean encoders of the encoder's architecture and input size were searched with ``config``."""
    return not yardstick_for(encoder, config).caveats
