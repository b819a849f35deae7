"""How a file of weights was read, in words: the first lines of every answer.

What is certain and what was assumed are kept apart. An assumption, if it is wrong, changes every feature and so makes
the whole answer one about an encoder that nobody uses; a note changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from core.encoders.card import EncoderCard

GIVEN = "read by the card that was given"
OWN = "read by the file's own card"
ASSUMED = "assumed from names and shapes: no card was given"
TRAINED_HERE = "trained for this audit: no encoder was given"

_NAMED = ("format", "architecture", "overrides", "input_size", "mean", "std", "feature_dim", "copy", "config")


@dataclass(frozen=True)
class Reading:
    """What was audited, on whose word. ``audited`` is one sentence, ``assumptions`` are sentences about what could be
    wrong and would change the features, ``notes`` sentences about what changes none."""

    audited: str
    assumptions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def assuming(self, sentences: Iterable[str]) -> Reading:
        """The same with further assumptions, such as only the images show."""
        return replace(self, assumptions=(*self.assumptions, *sentences))


def audited(card: EncoderCard, origin: str, *, copy: str = "") -> str:
    """The sentence that says what was audited. ``origin`` says who said so (:data:`GIVEN`, ...); ``copy`` is a clause
    about which of several copies in the file it was."""
    height, width = card.image_size
    changed = f" with {', '.join(card.overrides)} changed" if card.overrides else ""
    further = "".join(f", {name} {value}" for name, value in card.to_json().items() if name not in _NAMED)
    parts = [
        f"{card.architecture}{changed} at {height}x{width}{further}, mean {_three(card.mean)}, std {_three(card.std)}",
        origin,
        copy,
    ]
    return "; ".join(part for part in parts if part) + "."


def _three(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
