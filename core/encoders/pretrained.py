"""With which pixels were the published weights of an architecture trained? timm's registry says, tag by tag.

Checkpoints of one architecture can share every name and shape and still want other pixels: of ``vit_base_patch16_224``
some are published with mean and std .5, DINO's and MAE's with ImageNet's, one with CLIP's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from core.encoders.architectures import default_preprocessing, require_known
from core.encoders.normalisations import CLIP, HALF, IMAGENET, Three, normalisation_words

__all__ = [
    "CLIP",
    "HALF",
    "IMAGENET",
    "Pixels",
    "Three",
    "completed",
    "normalisation_words",
    "published_pixels",
    "tags_of",
]


@dataclass(frozen=True)
class Pixels:
    """A normalisation, the input sizes (sides in pixels) it is published with, and the tags of those weights."""

    mean: Three
    std: Three
    sizes: tuple[int, ...]
    tags: tuple[str, ...]

    @property
    def words(self) -> str:
        """The normalisation in words."""
        return normalisation_words(self.mean, self.std)


@cache
def published_pixels(architecture: str) -> tuple[Pixels, ...]:
    """Every normalisation of the published weights of ``architecture`` (``timm/NAME``, ``torchvision/NAME``), the
    library's default first; one row, without tags, where the library names none."""
    family, _, name = architecture.partition("/")
    size, mean, std = default_preprocessing(architecture)
    default = Pixels(mean, std, (size[0],), ())
    rows = {(mean, std): default}
    for tag, row in _registry().get(name, {}).items() if family == "timm" else ():
        known = rows.get((row.mean, row.std), Pixels(row.mean, row.std, (), ()))
        sizes = tuple(dict.fromkeys((*known.sizes, *row.sizes)))
        rows[row.mean, row.std] = Pixels(row.mean, row.std, sizes, (*known.tags, tag))
    return tuple(rows.values())


def tags_of(architecture: str) -> tuple[str, ...]:
    """The tags under which weights of ``timm/NAME`` are published."""
    return tuple(_registry().get(architecture.partition("/")[2], ()))


def completed(card: Mapping[str, Any]) -> Mapping[str, Any]:
    """``card`` with input size, mean and std of the published weights that it names by ``timm/NAME.TAG``, where it
    leaves them out; any other card as it is.

    Raises:
        UnsupportedInput: ``unknown_architecture``, no weights of that tag are published.
    """
    architecture = card.get("architecture") if isinstance(card, Mapping) else None
    if not isinstance(architecture, str) or not architecture.startswith("timm/") or "." not in architecture:
        return card
    name, _, tag = architecture.removeprefix("timm/").partition(".")
    row = _registry().get(name, {}).get(tag)
    if row is None:
        require_known(architecture)
        return card
    return {"input_size": row.sizes[0], "mean": list(row.mean), "std": list(row.std), **card}


@cache
def _registry() -> Mapping[str, Mapping[str, Pixels]]:
    import timm

    found: dict[str, dict[str, Pixels]] = {}
    for full in timm.list_pretrained():
        if (config := timm.get_pretrained_cfg(full)) is None:
            continue
        name, _, tag = full.partition(".")
        (m0, m1, m2), (s0, s1, s2) = config.mean, config.std
        found.setdefault(name, {})[tag] = Pixels((m0, m1, m2), (s0, s1, s2), (config.input_size[1],), (tag,))
    return found
