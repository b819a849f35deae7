"""How large are the images of a set? Asked before any of them is decoded."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from core.images.archive import Members, UnreadableMember
from core.images.decode import MIN_SIDE, upright_size
from core.images.load import image_names, open_members

_SAMPLE = 256
"""Files that are looked at, evenly spread over the set."""


def usual_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels of most images of the set at ``path``, as they stand upright; by their headers.

    Where none of the sample is an image it is the least size: whoever decodes them meets the same fault and names it.

    Raises:
        UsageError: nothing at ``path``, or a Parquet file without the package that reads it.
        UnsupportedInput: an archive that is damaged or hostile.
    """
    with open_members(path) as members:
        names = image_names(members)
        sizes = [_size(members, name) for name in names[:: max(1, len(names) // _SAMPLE)]]
    counts = Counter(size for size in sizes if size is not None)
    # Of two equally frequent sizes the smaller: enlarging an image adds nothing to it.
    return min(counts, key=lambda size: (-counts[size], size), default=(MIN_SIDE, MIN_SIDE))


def _size(members: Members, name: str) -> tuple[int, int] | None:
    try:
        return upright_size(members.read(name))
    except UnreadableMember:
        return None
