"""The labelled set that an attacker poisons, read image by image at its own resolution."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from core.errors import UnsupportedInput
from core.images.archive import Members, UnreadableMember
from core.images.decode import MIN_SIDE, NotAnImage, UnusableImage, decode, upright_size
from core.images.depth import Depth
from core.images.folder import is_system_file
from core.images.labelled import class_folders
from core.images.load import image_names, open_members
from core.run import Run
from core.types import RejectedImage

Pixels: TypeAlias = NDArray[np.uint8]
"""``[3, H, W]``, RGB."""

STAGE = "read the images"
MIN_IMAGES = 20


@dataclass(frozen=True)
class SourceSet:
    """The usable images of a set, all of which can be read. ``class_of`` and ``size_of`` (height, width) have their
    names, sorted; ``skipped`` has the files that are no usable images or stand outside the class folders."""

    class_of: Mapping[str, str]
    size_of: Mapping[str, tuple[int, int]]
    skipped: tuple[RejectedImage, ...]
    _members: Members
    _depth: Depth

    @property
    def names(self) -> list[str]:
        return list(self.class_of)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.class_of.values())))

    @property
    def usual_size(self) -> tuple[int, int]:
        """(height, width) of most images; of two equally frequent sizes the smaller."""
        counts = Counter(self.size_of.values())
        return min(counts, key=lambda size: (-counts[size], size))

    def of_class(self, label: str) -> list[str]:
        return [name for name, found in self.class_of.items() if found == label]

    def others(self, label: str) -> list[str]:
        """The names of all images that are not of class ``label``."""
        return [name for name, found in self.class_of.items() if found != label]

    def read(self, name: str) -> Pixels:
        """The image ``name`` at its own size, upright."""
        return _decode_whole(self._members.read(name), self._depth)


@contextmanager
def open_source(path: Path, run: Run) -> Iterator[SourceSet]:
    """The set with class folders in the folder, zip or tar at ``path``. Every image is decoded once, to know what is
    usable before anything is decided; none is kept.

    Raises:
        UsageError: nothing at ``path``.
        UnsupportedInput: ``no_classes``, ``too_few_images``, or an archive that is damaged or hostile.
    """
    with open_members(path) as members:
        names = image_names(members)
        folders = class_folders(names, path.name)
        class_of: dict[str, str] = {}
        size_of: dict[str, tuple[int, int]] = {}
        skipped = [image for image in members.rejected if not is_system_file(image.name)]
        depth = Depth()
        for step in run.steps(STAGE, len(names)):
            name = names[step]
            if name not in folders:
                skipped.append(RejectedImage(name, "outside the class folders"))
                continue
            try:
                height, width = _decode_whole(members.read(name), depth).shape[1:]
            except (NotAnImage, UnreadableMember, UnusableImage) as failure:
                skipped.append(RejectedImage(name, str(failure)))
            else:
                class_of[name], size_of[name] = folders[name], (height, width)
        _require_enough(class_of, skipped, path.name)
        yield SourceSet(class_of, size_of, tuple(skipped), members, depth)


def _decode_whole(data: bytes, depth: Depth) -> Pixels:
    """``core.images.decode`` without its scaling and cropping."""
    with warnings.catch_warnings():
        # Pillow warns of large or odd images; ``decode`` has its own limits and says what it refuses.
        warnings.simplefilter("ignore")
        return decode(data, upright_size(data) or (MIN_SIDE, MIN_SIDE), depth)


def _require_enough(class_of: Mapping[str, str], skipped: list[RejectedImage], archive: str) -> None:
    if len(class_of) >= MIN_IMAGES:
        return
    reasons = "; ".join(f"{ascii(image.name)[1:-1][:80]}: {image.reason}" for image in skipped[:5])
    raise UnsupportedInput(
        "too_few_images",
        field="images",
        found=f"{len(class_of)} usable images in {ascii(archive)[1:-1][:100]}, {len(skipped)} files skipped"
        + (f" ({reasons})" if reasons else ""),
        expected=f"at least {MIN_IMAGES} images in class folders",
        action="Give the whole set that is to be poisoned.",
    )
