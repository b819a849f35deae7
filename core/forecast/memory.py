"""How much memory an audit takes at its peak."""

from __future__ import annotations

from core.types import Encoder, ImageSet


def expected_peak(encoder: Encoder, images: ImageSet) -> int:
    """Bytes."""
    return sum(w.nbytes for w in encoder.parameters())
