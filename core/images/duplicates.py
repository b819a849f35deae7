"""Images that are there more than once."""

from __future__ import annotations

import hashlib

from core.types import ImageSet


def duplicate_groups(images: ImageSet) -> tuple[tuple[str, ...], ...]:
    """The names of images whose pixels are identical at the size they were read: groups of two or more.

    Groups stand in the order of their first image, names in the order of the set. Two files of different sizes or
    formats that scale to the same pixels are duplicates, a copy compressed anew is none. 32 bytes per image are kept.
    """
    groups: dict[bytes, list[int]] = {}
    for index, pixels in enumerate(images.pixels.numpy()):
        groups.setdefault(hashlib.sha256(pixels.tobytes()).digest(), []).append(index)
    return tuple(tuple(images.names[index] for index in group) for group in groups.values() if len(group) > 1)
