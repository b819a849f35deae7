"""Names that do not betray: every image is called ``.png``, and an added image like the others of its folder.

New names go on with the numbers of the folder, where they leave gaps and after them. The highest numbers would give the
additions away, so in a class folder with additions all names are dealt out anew among all its images, by seed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import torch

from core.attacks.poison_plan import Poison
from core.attacks.source_set import SourceSet
from core.random import generator

_SUFFIX = ".png"


def output_entries(source: SourceSet, poisons: Sequence[Poison], seed: int) -> dict[str, str | Poison]:
    """Name in the poisoned set -> the poison that stands there, or the clean image's name in ``source``; sorted."""
    replaced = {poison.replaces: poison for poison in poisons if poison.replaces is not None}
    png_of = _png_names(source.names)
    entries: dict[str, str | Poison] = {png_of[name]: replaced.get(name, name) for name in source.names}
    for label in source.classes:
        added = [poison for poison in poisons if poison.replaces is None and poison.target.label == label]
        if not added:
            continue
        names = [png_of[name] for name in source.of_class(label)]
        images = [entries[name] for name in names] + added
        names += _fresh_names(names, len(added))
        order = torch.randperm(len(names), generator=generator(seed, "names", label)).tolist()
        entries.update({names[place]: image for place, image in zip(order, images, strict=True)})
    return dict(sorted(entries.items()))


def renamed(source: SourceSet, entries: Mapping[str, str | Poison]) -> dict[str, str]:
    """Name in the poisoned set -> name in ``source``, where a clean image lost its own."""
    png_of = _png_names(source.names)
    return {name: image for name, image in entries.items() if isinstance(image, str) and png_of[image] != name}


def _png_names(names: Sequence[str]) -> dict[str, str]:
    """Each name with the suffix .png; where that is taken (a.bmp, a.jpg) the second keeps its own before it."""
    png_of: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        png, long = str(PurePosixPath(name).with_suffix(_SUFFIX)), name
        while png in taken:
            png = long = long + _SUFFIX
        png_of[name] = png
        taken.add(png)
    return png_of


def _fresh_names(names: Sequence[str], count: int) -> list[str]:
    """``count`` names in the style of most of ``names``: same folder, same text before the number, as many digits."""
    parts = [(PurePosixPath(name).parent, re.fullmatch(r"(.*?)(\d*)", PurePosixPath(name).stem)) for name in names]
    styles = Counter((folder, match.group(1)) for folder, match in parts if match is not None)
    (folder, prefix), _ = min(styles.items(), key=lambda item: (-item[1], item[0]))
    digits = [
        match.group(2)
        for parent, match in parts
        if match is not None and (parent, match.group(1)) == (folder, prefix) and match.group(2)
    ]
    padded = any(text.startswith("0") and len(text) > 1 for text in digits)
    width = max(map(len, digits), default=1) if padded else 1
    taken = set(names)
    fresh: list[str] = []
    for number in _from(min(map(int, digits), default=0)):
        name = str(folder / f"{prefix}{number:0{width}d}{_SUFFIX}")
        if name not in taken:
            fresh.append(name)
        if len(fresh) == count:
            break
    return fresh


def _from(number: int) -> Iterator[int]:
    while True:
        yield number
        number += 1
