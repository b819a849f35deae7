"""Images in whatever form they come, as an :class:`ImageSet`: flat, in class folders or deeper, labels unread.

A folder, a zip or a tar of image files, a folder of WebDataset or Parquet shards, a Parquet file or an npz: the form is
known by the content, never by the name.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from core.errors import UnsupportedInput, UsageError
from core.images.archive import FORMS, Members, UnreadableMember, broken
from core.images.decode import FORMATS, NOT_AN_IMAGE, NotAnImage, UnusableImage, decode
from core.images.depth import Depth
from core.images.folder import is_system_file
from core.images.shards import open_archive, open_folder
from core.run import QuietRun, Run
from core.types import ImageSet, RejectedImage

MAX_PIXEL_BYTES = 24 * 2**30
READING = "reading the images"
"""The stage of decoding."""
_STEP = 32  # images
LEAST_IMAGES = 50
"""Fewer images say nothing about an encoder."""


def load_images(
    path: Path,
    image_size: tuple[int, int],
    *,
    minimum: int = LEAST_IMAGES,
    name: str | None = None,
    distinct: bool = False,
    run: Run | None = None,
) -> ImageSet:
    """The images in the folder or file at ``path``, in the order of their names, at ``image_size`` (height, width).

    What an operating system leaves behind (``.DS_Store``, ``__MACOSX``, ``Thumbs.db``) is passed over. Every other
    file that is not a usable image is named in ``rejected``. How an image is resized: see ``core.images.decode``.
    ``name`` is the user's name for the archive. With ``distinct``, images of the same pixels count once towards
    ``minimum``; all of them are kept. ``run`` hears of a stage :data:`READING`.

    Raises:
        UsageError: nothing at ``path``, or a Parquet file without the package that reads it.
        UnsupportedInput: ``no_images``, ``too_few_images`` (fewer than ``minimum`` usable), ``too_many_images``, or
            an archive that is damaged or hostile.
    """
    with open_members(path) as members:
        images = read_images(members, image_names(members), image_size, run)
    require_enough(images, minimum, name or path.name, distinct=distinct)
    return images


@contextmanager
def open_members(path: Path) -> Iterator[Members]:
    """The files of the folder or file at ``path``.

    Raises:
        UsageError: nothing at ``path``, or a Parquet file without the package that reads it.
        UnsupportedInput: a file that is damaged, hostile or of no known form.
    """
    if path.is_dir():
        with open_folder(path) as members:
            yield members
    elif path.is_file():
        with open_archive(path) as members:
            yield members
    else:
        raise UsageError(
            "no_such_file",
            field="images",
            found=f"no file or folder at {path}",
            expected=FORMS,
            action="Check the path.",
        )


def image_names(members: Members) -> list[str]:
    """The names worth opening, sorted: hidden and system files are passed over."""
    return [name for name in members.names() if not is_system_file(name)]


def read_images(
    members: Members, names: Sequence[str], image_size: tuple[int, int], run: Run | None = None
) -> ImageSet:
    """Decode ``names`` in their order; what cannot be used is listed in ``rejected``."""
    height, width = image_size
    if len(names) * 3 * height * width > MAX_PIXEL_BYTES:
        raise UnsupportedInput(
            "too_many_images",
            field="images",
            found=f"{len(names)} files, {len(names) * 3 * height * width / 2**30:.0f} GiB at {height}x{width}",
            expected=f"at most {MAX_PIXEL_BYTES // 2**30} GiB of pixels",
            action="Give a random subset; some thousand images are plenty.",
        )
    pixels = np.empty((len(names), 3, height, width), dtype=np.uint8)
    used: list[str] = []
    rejected = [image for image in members.rejected if not is_system_file(image.name)]
    depth, deep = Depth(), list[tuple[str, int, tuple[float, float]]]()
    with warnings.catch_warnings():
        # Pillow warns of large or odd images; ``decode`` has its own limits and says what it rejects.
        warnings.simplefilter("ignore")
        for name in _in_steps(names, run or QuietRun()):
            seen = depth.images
            try:
                pixels[len(used)] = decode(members.read(name), image_size, depth)
            except (NotAnImage, UnreadableMember, UnusableImage) as failure:
                rejected.append(RejectedImage(name, str(failure)))
                continue
            if depth.images > seen:
                deep.append((name, len(used), depth.whites()))
            used.append(name)
        for name, index, whites in deep:
            if whites != depth.whites():  # a later image was brighter
                pixels[index] = _decoded_before(members, name, image_size, depth)
    kept = torch.from_numpy(pixels[: len(used)])
    digest, repeated = _digest(used, pixels)
    notes = (*members.notes, *depth.notes(), *_notes_of_repeated(len(used), repeated))
    return ImageSet(kept, tuple(used), digest, tuple(rejected), repeated, notes)


def _in_steps(names: Sequence[str], run: Run) -> Iterator[str]:
    for step in run.steps(READING, math.ceil(len(names) / _STEP)):
        yield from names[_STEP * step : _STEP * (step + 1)]


def _decoded_before(members: Members, name: str, image_size: tuple[int, int], depth: Depth) -> NDArray[np.uint8]:
    try:
        return decode(members.read(name), image_size, depth)
    except (NotAnImage, UnreadableMember, UnusableImage):
        broken("images that changed while they were read", "set")


def _notes_of_repeated(count: int, repeated: int) -> tuple[str, ...]:
    if not repeated:
        return ()
    return (f"{count - repeated} of the {count} images are distinct: the others have the pixels of one of them.",)


def require_enough(images: ImageSet, minimum: int, archive: str, *, distinct: bool = False) -> None:
    """Refuse a set of fewer than ``minimum`` images, or ``distinct`` ones, saying why the others cannot be used.

    Raises:
        UnsupportedInput: ``no_images`` when nothing in it is an image at all, else ``too_few_images``.
    """
    count = images.distinct if distinct else len(images)
    if count >= minimum:
        return
    among = (
        f"{count} usable images" if count == len(images) else f"{count} distinct images among {len(images)} usable ones"
    )
    reasons = "; ".join(f"{ascii(r.name)[1:-1][:80]}: {r.reason}" for r in images.rejected[:5])
    more = f"; and {len(images.rejected) - 5} more" if len(images.rejected) > 5 else ""
    none = not images.names and all(r.reason == NOT_AN_IMAGE for r in images.rejected)
    raise UnsupportedInput(
        "no_images" if none else "too_few_images",
        field="images",
        found=f"{among} in {ascii(archive)[1:-1][:100]}, {len(images.rejected)} files rejected"
        + (f" ({reasons}{more})" if reasons else ""),
        expected=f"at least {minimum} {'different ' if count < len(images) else ''}images ({', '.join(FORMATS)})",
        action="Add clean images like those the encoder was trained on; labels are not needed.",
    )


def _digest(names: Sequence[str], pixels: NDArray[np.uint8]) -> tuple[str, int]:
    """The set's digest, and how many images have the pixels of an earlier one."""
    digest, images = hashlib.sha256(repr(pixels.shape[1:]).encode()), set[bytes]()
    for name, image in zip(names, pixels, strict=False):
        digest.update(f"{name}\0".encode(errors="surrogateescape"))
        digest.update(image.data)
        images.add(hashlib.sha256(image.data).digest())
    return digest.hexdigest(), len(names) - len(images)
