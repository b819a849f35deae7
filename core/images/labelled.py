"""Labelled images, for **evaluation only**: accuracy and attack success rate need truth, a defence must never see it.

Kept apart from ``core.images.load`` so that import rules can hold every recovery, unlearning and cleansing method away
from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.errors import UnsupportedInput, UsageError
from core.images.load import image_names, open_members, read_images, require_enough
from core.images.shards import inner_name
from core.types import ImageSet


@dataclass(frozen=True)
class LabelledImages:
    """``labels`` is ``[N]`` int64, indices into ``classes``, which are the folders' names, sorted."""

    images: ImageSet
    labels: Tensor
    classes: tuple[str, ...]


def load_labelled(
    path: Path,
    image_size: tuple[int, int],
    *,
    minimum: int = 50,
    limit_per_class: int | None = None,
    name: str | None = None,
) -> LabelledImages:
    """The images in the class folders of the folder, zip or tar at ``path``; a folder around all of them is passed
    over, and so is the shard of a folder of tars.

    ``limit_per_class`` takes the first so many names of each class.

    Raises:
        UsageError: nothing at ``path``, or a limit below 1.
        UnsupportedInput: ``no_classes`` when there are fewer than two class folders, else as ``load_images``.
    """
    if limit_per_class is not None and limit_per_class < 1:
        raise UsageError(
            "invalid_parameter",
            field="limit_per_class",
            found=str(limit_per_class),
            expected="at least 1",
            action="Raise the limit or leave it out.",
        )
    with open_members(path) as members:
        names = image_names(members)
        class_of = class_folders(names, name or path.name)
        classes = tuple(sorted(set(class_of.values())))
        chosen = [n for n in names if n in class_of]
        if limit_per_class is not None:
            chosen = _first_of_each(chosen, class_of, limit_per_class)
        images = read_images(members, chosen, image_size)
    require_enough(images, minimum, name or path.name)
    index = {label: number for number, label in enumerate(classes)}
    labels = torch.tensor([index[class_of[n]] for n in images.names], dtype=torch.int64)
    return LabelledImages(images, labels, classes)


def class_folders(names: Sequence[str], archive: str) -> dict[str, str]:
    """Name -> class folder, for the ``names`` in ``archive``; a folder around all of them is passed over. Files outside
    any class folder (a README at the top) have none and are left out.

    Raises:
        UnsupportedInput: ``no_classes`` when there are fewer than two class folders.
    """
    parts = {name: inner_name(name).split("/") for name in names}
    depth = 0
    while len({tuple(p[: depth + 1]) for p in parts.values()}) == 1 and all(len(p) > depth + 2 for p in parts.values()):
        depth += 1
    class_of = {name: p[depth] for name, p in parts.items() if len(p) > depth + 1}
    count = len(set(class_of.values()))
    if count < 2:
        raise UnsupportedInput(
            "no_classes",
            field="images",
            found=f"{count} class folder(s) in {ascii(archive)[1:-1][:100]}",
            expected="one folder per class, at least two: CLASS/IMAGE.jpg",
            action="Labels are needed here: sort the images into class folders, in a folder, zip or tar.",
        )
    return class_of


def _first_of_each(names: list[str], class_of: dict[str, str], limit: int) -> list[str]:
    taken: dict[str, int] = {}
    chosen = []
    for name in names:
        taken[class_of[name]] = taken.get(class_of[name], 0) + 1
        if taken[class_of[name]] <= limit:
            chosen.append(name)
    return chosen


def require_class(label: str, classes: tuple[str, ...], *, field: str = "class") -> int:
    """The index of class ``label``.

    Raises:
        UsageError: there is no such class.
    """
    if label not in classes:
        raise UsageError(
            "unknown_class",
            field=field,
            found=f"'{label}'",
            expected=f"one of {', '.join(classes[:50])}",
            action="Use the name of a class folder.",
        )
    return classes.index(label)
