"""What searches report, in numbers that do not know the image's size, and nothing about what they mean.

An effect is x = -ln((1 - S) / (1 - S0)): S is the mean pairwise cosine of triggered features, S0 that of clean ones, so
that x is the share of the clean spread that a trigger leaves, as a logarithm. A control is the same number for
something that no attacker planted, on the same encoder: the best trigger that leads *elsewhere* in feature space, the
same patch at other places. A backdoor is a place in feature space that is far easier to reach than others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

LEAST_GAP = 1e-6


def effect_of(similarity: float, clean: float) -> float:
    """x of a trigger that makes features as alike as ``similarity``; 0 where it does nothing."""
    return -math.log(max(LEAST_GAP, 1 - similarity) / max(LEAST_GAP, 1 - clean))


def similarity_at(effect: float, clean: float) -> float:
    """The inverse of :func:`effect_of`."""
    return 1 - math.exp(-effect) * max(LEAST_GAP, 1 - clean)


@dataclass(frozen=True)
class Evidence:
    """What one ``search`` found: the ``effect`` of its best trigger on held-out images, and that of its ``controls`` by
    their names. ``bound`` is the largest trigger that was looked for, relative to the image or on the scale of pixels.
    """

    search: str
    bound: float
    effect: float
    controls: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What the same search of another encoder is found by."""
        return f"{self.search}@{self.bound:.4g}"

    @property
    def control(self) -> float:
        """The strongest control; 0, the effect of nothing, where there is none."""
        return max(self.controls.values(), default=0.0)

    @property
    def statistic(self) -> float:
        """By how much the trigger outdoes its strongest control; 0 where it does not, however far it stays behind."""
        return max(0.0, self.effect - max(0.0, self.control))


@dataclass(frozen=True)
class Context:
    """What evidence depends on whether there is a backdoor or not.

    ``family`` is the architecture, ``side`` the image's shorter side in pixels. ``clean_similarity`` is S0,
    ``contrast`` the deviation of all pixels on the [0, 1] scale, ``images`` how many there are. ``dose_response`` is
    log2 of the effect of the best additive pattern over that of half of it: about 2 where effects grow with the square
    of the dose, less on an encoder to which few pixels of one colour are much. ``colour_response`` is the effect of a
    plain square wherever it lies, of the colour that does most.
    """

    family: str
    side: int
    clean_similarity: float
    contrast: float
    images: int
    dose_response: float
    colour_response: float

    def coordinates(self) -> dict[str, float]:
        """All but the family, on scales on which differences are comparable."""
        return {
            "side": math.log2(self.side),
            "clean similarity": -math.log(max(1e-3, 1 - self.clean_similarity)),
            "contrast": math.log2(max(1e-3, self.contrast)),
            "number of images": math.log2(self.images),
            "dose response": min(3.0, max(0.0, self.dose_response)),
            "colour response": self.colour_response,
        }


@dataclass(frozen=True)
class Examination:
    """All evidence about one encoder. ``missing`` are the keys of searches that were not done or not to their end."""

    context: Context
    evidence: tuple[Evidence, ...]
    missing: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values, rounded to six places: bounds keep their keys."""
        rows = [{**asdict(one), "controls": dict(one.controls)} for one in self.evidence]
        document: dict[str, Any] = {"context": asdict(self.context), "evidence": rows, "missing": list(self.missing)}
        return _rounded(document)  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_json`.

        Raises:
            KeyError, TypeError: it is none.
        """
        evidence = tuple(Evidence(**row) for row in document["evidence"])
        return cls(Context(**document["context"]), evidence, tuple(document.get("missing", ())))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value
