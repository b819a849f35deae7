"""Finding the encoder inside a checkpoint: under which prefix its weights lie, and what beside them is not it.

Training code wraps its encoder (``state_dict``, ``module.``, ``encoder_q.``, ``backbone.``, ``f.``, ``visual.``,
nested in any order). No list of prefixes is needed: the encoder lies wherever *all* names and shapes of its
architecture are found. What does need words is what may be dropped; which of two copies is in use, ``copies`` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.errors import UnsupportedInput

Path = tuple[str, ...]
Shape = tuple[int, ...]

_HEAD = re.compile(
    r"(fcs?|heads?|head_dist|classifiers?|g|h|linear|lin|mlp|mlp_head|proj|projectors?|projection|pred|predictors?|"
    r"prediction|prototypes|last_layer|queue\w*|logit_scale|AuxLogits|aux\d|pre_logits|"
    r"\w+_(heads?|projectors?|predictors?|prototypes|queue)|(projection|prediction|classification|contrastive)_\w+)"
)
_SLOW_COPY = re.compile(
    r"(encoder_k|momentum|target|teacher|ema|shadow|key_encoder)|\w*_(ema|momentum|target|teacher)|"
    r"(momentum|target|teacher|ema)_\w+"
)
_TRAINING_STATE = re.compile(r"(optim\w*|optimizer\w*|scaler|sched\w*|lr_sched\w*|loss\w*|criterion|\w+_loss|queue\w*)")

# A torchvision ResNet's children put into nn.Sequential lose their names: all of them, or without the max-pool
# (the form in which CIFAR versions of SimCLR, and BadEncoder after them, save it).
_NUMBERED_RESNETS: tuple[Mapping[str, str], ...] = (
    {"0": "conv1", "1": "bn1", "3": "layer1", "4": "layer2", "5": "layer3", "6": "layer4"},
    {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"},
)


@dataclass(frozen=True)
class Placement:
    """Where one encoder lies. ``paths`` maps its own names to paths in the checkpoint; ``heads`` are the names under
    the same prefix that are not part of it; ``absent`` are batch counters that old checkpoints lack."""

    prefix: str
    paths: Mapping[str, Path]
    heads: tuple[str, ...]
    absent: tuple[str, ...] = ()
    max_pool_removed: bool = False


@dataclass(frozen=True)
class Mismatch:
    """How a prefix fails to hold the encoder."""

    prefix: str
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: tuple[str, ...]

    @property
    def total(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.reshaped)


@dataclass(frozen=True)
class Search:
    """Every place where the encoder lies, in the file's order, and the nearest miss when there is none."""

    placements: tuple[Placement, ...]
    nearest: Mismatch | None


@dataclass(frozen=True)
class View:
    """The tensors under one prefix. ``own`` maps names without the prefix to full names; ``max_pool_removed`` says
    that these are numbered children among which a ResNet's max-pool is missing."""

    prefix: str
    own: Mapping[str, str]
    max_pool_removed: bool = False


def views(names: Iterable[str]) -> Iterator[View]:
    """One view per prefix that occurs, and numbered ResNets once more under their real names."""
    groups: dict[str, dict[str, str]] = {"": {}}
    for name in names:
        groups[""][name] = name
        end = -1
        for _ in range(12):
            end = name.find(".", end + 1)
            if end < 0:
                break
            groups.setdefault(name[: end + 1], {})[name[end + 1 :]] = name
    for prefix, own in groups.items():
        yield View(prefix, own)
        if "0.weight" in own:
            yield from _renumbered(prefix, own)


def _renumbered(prefix: str, own: Mapping[str, str]) -> Iterator[View]:
    tops = {name.partition(".")[0] for name in own}
    for numbers in _NUMBERED_RESNETS:
        if set(numbers) <= tops:
            renamed = {}
            for name, full in own.items():
                top, _, rest = name.partition(".")
                renamed[f"{numbers[top]}.{rest}" if top in numbers else name] = full
            yield View(prefix, renamed, max_pool_removed="3" in numbers)


def search(shapes: Mapping[Path, Shape], expected: Mapping[str, Shape]) -> Search:
    """Look for names and shapes ``expected`` under every prefix of the checkpoint's ``shapes``.

    Raises:
        UnsupportedInput: ``ambiguous_checkpoint`` when two tensors have one name.
    """
    by_name = flat_names(shapes)
    found: list[Placement] = []
    nearest: Mismatch | None = None
    required = sum(not _is_counter(name) for name in expected)
    for view in views(by_name):
        prefix, own = view.prefix, view.own
        if prefix and 2 * len(own) < required:
            continue  # a piece of something; also what keeps a file of countless prefixes cheap to refuse
        mismatch = _compare(prefix, {name: shapes[by_name[full]] for name, full in own.items()}, expected)
        if mismatch.total == 0:
            paths = {name: by_name[own[name]] for name in expected if name in own}
            heads = tuple(full for name, full in own.items() if name not in expected)
            absent = tuple(name for name in expected if name not in own)
            found.append(Placement(prefix, paths, heads, absent, view.max_pool_removed))
        elif nearest is None or _distance(mismatch) < _distance(nearest):
            nearest = mismatch
    return Search(tuple(found), nearest)


def flat_names(paths: Iterable[Path]) -> dict[str, Path]:
    """Paths by their dotted names.

    Raises:
        UnsupportedInput: two paths have the same dotted name.
    """
    named: dict[str, Path] = {}
    for path in paths:
        name = ".".join(path)
        if name in named:
            raise UnsupportedInput(
                "ambiguous_checkpoint",
                field="encoder",
                found=f"two tensors named {ascii(name)[1:-1][:120]}",
                expected="each name once",
                action="Save the encoder's own state dict, without the wrapper.",
            )
        named[name] = path
    return named


def is_head(name: str) -> bool:
    """Whether ``name``, relative to the encoder's prefix, belongs to a projection or classification head."""
    return _HEAD.fullmatch(name.partition(".")[0]) is not None


def unrecognised(names: Sequence[str]) -> tuple[str, ...]:
    """The top-level groups among dropped ``names`` that are neither head, slow copy nor training state."""
    known = (_HEAD, _SLOW_COPY, _TRAINING_STATE)
    strange = [n for n in names if not any(p.fullmatch(part) for part in n.split(".") for p in known)]
    return tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in strange))


def _compare(prefix: str, own: Mapping[str, Shape], expected: Mapping[str, Shape]) -> Mismatch:
    missing = tuple(name for name in expected if name not in own and not _is_counter(name))
    unexpected = tuple(name for name in own if name not in expected and not is_head(name) and not _is_counter(name))
    reshaped = tuple(
        f"{name} {list(own[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in own and own[name] != shape
    )
    return Mismatch(prefix, missing, unexpected, reshaped)


def _distance(mismatch: Mismatch) -> int:
    return 2 * len(mismatch.missing) + len(mismatch.unexpected) + len(mismatch.reshaped)


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")
