"""Original names into timm's: OpenAI's CLIP, DINOv2 with registers, SigLIP, position embeddings of another size.

timm knows how the authors of its networks name their weights: each of its modules has a ``checkpoint_filter_fn`` for
published files. It is asked where names and shapes do not fit as they stand. What it only renames keeps its place in
the file and can be written back under the old name, and so can what it reshapes (``parts``); what it computes (a fused
matrix) cannot.
"""

from __future__ import annotations

import inspect
import logging
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from core.encoders.architectures import build_backbone, shapes_of
from core.encoders.card import EncoderCard
from core.encoders.parts import Part, Places
from core.encoders.placement import Mismatch, Path, Placement, Search, compare, flat_names, search, views
from core.errors import UnsupportedInput

_POSITIONS = re.compile(r"(^|\.)(pos_embed|pos_embedding|positional_embedding)$")
_MOST_SIZES = 6


def converted(card: EncoderCard, tensors: Mapping[Path, Tensor], backbone: nn.Module) -> Search:
    """Every place where the encoder lies under names that timm itself can translate; none for other libraries.

    ``backbone`` is the card's network, on any device; only its shapes are looked at. Position embeddings of another
    size keep it, and so their place in the file, where the network can resample them in every pass.
    """
    convert = _filter_of(card.architecture)
    first = _translations(convert, tensors, backbone) if convert else Search((), None)
    if not card.architecture.startswith("timm/") or (first.placements and not first.placements[0].computed):
        return first
    shapes = {path: tuple(tensor.shape) for path, tensor in tensors.items()}
    for size in _sizes(tensors, backbone):
        try:
            larger = build_backbone(card, device="meta", positions=size)
        except UnsupportedInput:
            continue
        found = search(shapes, shapes_of(larger))
        if not found.placements and convert:
            found = _translations(convert, tensors, larger)
        if found.placements and not found.placements[0].computed:
            return replace(found, placements=tuple(replace(each, positions=size) for each in found.placements))
    return first


def _sizes(tensors: Mapping[Path, Tensor], backbone: nn.Module) -> list[tuple[int, int]]:
    """Input sizes for which position embeddings in the file may be: a square of patches, before it up to 5 tokens."""
    patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", None)
    if not isinstance(patch, tuple) or len(patch) != 2:
        return []
    counts = {
        tensor.shape[-2]
        for path, tensor in tensors.items()
        if _POSITIONS.search(path[-1]) and tensor.ndim in (2, 3) and tensor.shape[-2] > 1
    }
    sides = {math.isqrt(count - before) for count in counts for before in range(6) if _is_square(count - before)}
    return [(side * int(patch[0]), side * int(patch[1])) for side in sorted(sides)][:_MOST_SIZES]


def _is_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


def _translations(convert: Callable[..., Any], tensors: Mapping[Path, Tensor], backbone: nn.Module) -> Search:
    expected = shapes_of(backbone)
    by_name = flat_names(tensors)
    places = Places(tensors)
    found: list[Placement] = []
    nearest: Mismatch | None = None
    for view in views({name: tuple(tensors[path].shape) for name, path in by_name.items()}):
        if 4 * len(view.own) < len(expected):
            continue
        given = {name: tensors[by_name[full]] for name, full in view.own.items()}
        result = _translated(convert, given, backbone)
        if result is None:
            continue
        mismatch = compare(view.prefix, {name: tuple(tensor.shape) for name, tensor in result.items()}, expected)
        if mismatch.total:
            nearest = mismatch if nearest is None or mismatch.total < nearest.total else nearest
            continue
        own = {id(tensor): by_name[view.own[name]] for name, tensor in given.items()}
        needed = {name: result[name] for name in expected if name in result}
        paths = {name: own[id(tensor)] for name, tensor in needed.items() if id(tensor) in own}
        parts = {name: part for name in needed if name not in paths and (part := places.find(needed[name]))}
        rest = [name for name in needed if name not in paths and name not in parts]
        parts |= _sums(convert, given, backbone, needed, rest, places)
        taken = {*paths.values(), *(part.path for part in parts.values())}
        computed = {name: needed[name] for name in rest if name not in parts}
        left = [name for name, full in view.own.items() if by_name[full] not in taken]
        read = {name for name in left if computed and _is_read(convert, given, name, result, backbone)}
        placement = Placement(
            view.prefix,
            paths,
            tuple(view.own[name] for name in left if name not in read),
            tuple(name for name in expected if name not in result),
            computed=computed,
            read=tuple(by_name[view.own[name]] for name in left if name in read),
            parts=parts,
        )
        if not any(_same_place(placement, other) for other in found):
            found.append(placement)
    return Search(tuple(found), nearest)


def _sums(
    convert: Callable[..., Any],
    given: Mapping[str, Tensor],
    backbone: nn.Module,
    needed: Mapping[str, Tensor],
    names: list[str],
    places: Places,
) -> dict[str, Part]:
    """Of ``names`` those that are the file's tensor of the same name plus a constant, as timm adds the position of
    DINOv2's class token to the token where there are registers. One more translation, of changed tensors, shows it."""
    same = [name for name in names if name in given and given[name].shape == needed[name].shape]
    changed = _translated(convert, {**given, **{name: given[name] + 1 for name in same}}, backbone) if same else None
    found = {}
    for name in same:
        place = places.find(given[name])
        if changed is None or place is None or name not in changed:
            continue
        if torch.allclose(changed[name].float() - needed[name].float(), torch.ones(()), atol=1e-2):
            found[name] = replace(place, added=needed[name] - given[name])
    return found


def _same_place(one: Placement, other: Placement) -> bool:
    """A filter that finds the tower by itself finds it under each prefix around it; that is one copy."""
    ours, theirs = ({name: part.path for name, part in each.parts.items()} for each in (one, other))
    return dict(one.paths) == dict(other.paths) and ours == theirs


def _is_read(
    convert: Callable[..., Any],
    given: Mapping[str, Tensor],
    name: str,
    result: Mapping[str, Tensor],
    backbone: nn.Module,
) -> bool:
    """Whether something is computed from ``name``: without it the filter gives other names, or fails."""
    without = _translated(convert, {key: value for key, value in given.items() if key != name}, backbone)
    return without is None or without.keys() != result.keys()


def _translated(
    convert: Callable[..., Any], given: Mapping[str, Tensor], backbone: nn.Module
) -> Mapping[str, Tensor] | None:
    """What timm's filter makes of the tensors; None where they are not what it knows."""
    try:
        with _quiet():
            result = convert(dict(given), backbone)
    except (KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError, AssertionError):
        return None  # it was written for published files and meets others here
    if not isinstance(result, dict) or not all(isinstance(value, Tensor) for value in result.values()):
        return None
    return result


def _filter_of(architecture: str) -> Callable[..., Any] | None:
    library, _, name = architecture.partition("/")
    if library != "timm":
        return None
    import timm

    name = name.partition(".")[0]
    if not timm.is_model(name):
        return None
    module = sys.modules[timm.model_entrypoint(name).__module__]
    convert = getattr(module, "checkpoint_filter_fn", None)
    if convert is None or len(inspect.signature(convert).parameters) < 2:
        return None
    return convert if callable(convert) else None


@contextmanager
def _quiet() -> Iterator[None]:
    """timm reports each resampling to its log; the report of the audit says it."""
    logger = logging.getLogger("timm")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
