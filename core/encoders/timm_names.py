"""Original names into timm's: OpenAI's CLIP, DINOv2 with registers, SigLIP, position embeddings of another size.

timm knows how the authors of its networks name their weights: each of its modules has a ``checkpoint_filter_fn`` for
published files. It is asked where names and shapes do not fit as they stand. What it only renames keeps its place
in the file and can be written back under the old name; what it computes (a fused matrix, resampled positions) cannot.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from core.encoders.architectures import shapes_of
from core.encoders.placement import Mismatch, Path, Placement, Search, compare, flat_names, views


def converted(architecture: str, tensors: Mapping[Path, Tensor], backbone: nn.Module) -> Search:
    """Every place where the encoder lies under names that timm itself can translate; none for other libraries.

    ``backbone`` is the card's network, on any device; only its shapes are looked at.
    """
    convert = _filter_of(architecture)
    expected = shapes_of(backbone)
    if convert is None:
        return Search((), None)
    by_name = flat_names(tensors)
    found: list[Placement] = []
    nearest: Mismatch | None = None
    for view in views(by_name):
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
        places = {id(tensor): by_name[view.own[name]] for name, tensor in given.items()}
        paths = {name: places[id(tensor)] for name, tensor in result.items() if id(tensor) in places}
        kept = {*paths.values()}
        left = [name for name, full in view.own.items() if by_name[full] not in kept]
        read = {name for name in left if _is_read(convert, given, name, result, backbone)}
        placement = Placement(
            view.prefix,
            {name: path for name, path in paths.items() if name in expected},
            tuple(view.own[name] for name in left if name not in read),
            tuple(name for name in expected if name not in result),
            computed={name: result[name] for name in expected if name in result and name not in paths},
            read=tuple(by_name[view.own[name]] for name in left if name in read),
        )
        if not any(_same_place(placement, other) for other in found):
            found.append(placement)
    return Search(tuple(found), nearest)


def _same_place(one: Placement, other: Placement) -> bool:
    """A filter that finds the tower by itself finds it under each prefix around it; that is one copy."""
    return dict(one.paths) == dict(other.paths)


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
