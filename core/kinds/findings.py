"""What a kind of audit works on and what it finds."""

from __future__ import annotations

from dataclasses import dataclass

from core.recovery.detection import Detection
from core.types import Encoder, ImageSet
from core.unlearning.result import Unlearning


@dataclass(frozen=True)
class Subject:
    """The encoder under audit, the clean images, and the seed that every random choice comes from."""

    encoder: Encoder
    images: ImageSet
    seed: int


@dataclass(frozen=True)
class Findings:
    """``detection`` is about the encoder that was given. ``unlearning`` and ``verification`` (the same detection on the
    purified encoder) are None where nothing was unlearnt; ``delivered`` is the encoder to hand out, None for kinds that
    yield none, and the given one itself where there was nothing to unlearn."""

    detection: Detection
    unlearning: Unlearning | None = None
    verification: Detection | None = None
    delivered: Encoder | None = None
