"""What is left of an image once it has been written to a file: whole grey levels."""

from __future__ import annotations

from core.types import Images


def as_stored(images: Images) -> Images:
    """``images`` clipped to [0, 1] and rounded to 8 bits, as every image that reaches a victim has been.

    Attacks and evaluations use it; a defence that searches by gradient cannot, and need not.
    """
    return images.clamp(0, 1).mul(255).round().div(255)
