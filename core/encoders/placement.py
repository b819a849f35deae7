"""Finding the encoder inside a checkpoint: under which prefix its weights lie, and what beside them is not it.

Training code wraps its encoder (``state_dict``, ``module.``, ``encoder_q.``, ``backbone.``, ``f.``, ``visual.``,
nested in any order). No list of prefixes is needed: the encoder lies wherever *all* names and shapes of its
architecture are found. What does need words is what may be dropped; which of two copies is in use, ``copies`` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from core.encoders import efficientnet_names
from core.encoders.parts import Part
from core.errors import UnsupportedInput

Path = tuple[str, ...]
Shape = tuple[int, ...]

_HEAD = re.compile(
    r"(_?fcs?|heads?|head_dist|classifiers?|g|h|linear|lin|mlp|mlp_head|proj|projectors?|projection|pred|predictors?|"
    r"prediction|prototypes|last_layer|pooler|queue\w*|logit_(scale|bias)|AuxLogits|aux\d|pre_logits|mask_tokens?|"
    r"decoder|decoder_\w+|text_model|(text|visual)_projection|"
    r"\w+_(heads?|projectors?|predictors?|prototypes|queue)|(projection|prediction|classification|contrastive)_\w+)"
)
_SLOW_COPY = re.compile(
    r"(encoder_k|momentum|target|teacher|ema|shadow|key_encoder)|\w*_(ema|momentum|target|teacher)|"
    r"(momentum|target|teacher|ema)_\w+"
)
_TRAINING_STATE = re.compile(
    r"(optim\w*|optimizer\w*|callbacks|scaler|sched\w*|lr_sched\w*|loss\w*|criterion|\w+_loss|queue\w*)"
)

# What wrappers put inside names, between a network's layers (FSDP, activation checkpointing, torch.compile, DDP), and
# how DINOv2's training writes its blocks (chunk, then number) and its gated MLP.
_INSIDE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?<=\.)(?:_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod|_forward_module|module)\."), ""),
    (re.compile(r"(?:^|(?<=\.))blocks\.\d+\.(\d+)\."), r"blocks.\1."),
    (re.compile(r"(?<=\.mlp\.)w12(?=\.)"), "fc1"),
    (re.compile(r"(?<=\.mlp\.)w3(?=\.)"), "fc2"),
)

# A torchvision ResNet's children put into nn.Sequential lose their names: all of them, or without the max-pool
# (the form in which CIFAR versions of SimCLR, and BadEncoder after them, save it).
_NUMBERED_RESNETS: tuple[Mapping[str, str], ...] = (
    {"0": "conv1", "1": "bn1", "3": "layer1", "4": "layer2", "5": "layer3", "6": "layer4"},
    {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"},
)


@dataclass(frozen=True)
class Placement:
    """Where one encoder lies. ``paths`` maps its own names to paths in the checkpoint; ``heads`` are the names under
    the same prefix that are not part of it; ``absent`` are batch counters that old checkpoints lack. ``computed`` are
    tensors of its own that the file does not hold as they are, such as position embeddings resampled to its size;
    ``read`` is what they were computed from. ``parts`` are those that lie inside another tensor of the file.
    ``positions`` is the input size that its position embeddings are for, where that is not the card's."""

    prefix: str
    paths: Mapping[str, Path]
    heads: tuple[str, ...]
    absent: tuple[str, ...] = ()
    max_pool_removed: bool = False
    computed: Mapping[str, Tensor] = field(default_factory=dict)
    read: tuple[Path, ...] = ()
    parts: Mapping[str, Part] = field(default_factory=dict)
    positions: tuple[int, int] | None = None


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
    that these are numbered children among which a ResNet's max-pool is missing. ``architectures`` is how the names of
    those networks begin that compute what a file of these names means; empty where the names do not tell."""

    prefix: str
    own: Mapping[str, str]
    max_pool_removed: bool = False
    architectures: str = ""


def views(shapes: Mapping[str, Shape]) -> Iterator[View]:
    """One view per prefix that occurs; numbered ResNets, names with wrappers inside, and EfficientNets of another
    convention once more under real names."""
    groups: dict[str, dict[str, str]] = {"": {}}
    for name in shapes:
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
        yield from _unwrapped_inside(prefix, own)
        if timms := efficientnet_names.renamed({name: shapes[full] for name, full in own.items()}):
            renamed = {timms[name]: full for name, full in own.items()}
            yield View(prefix, renamed, architectures=efficientnet_names.ARCHITECTURES)


def _unwrapped_inside(prefix: str, own: Mapping[str, str]) -> Iterator[View]:
    """The same tensors with the words of wrappers taken out of the middle of their names."""
    renamed: dict[str, str] = {}
    for name, full in own.items():
        tidied = name
        for pattern, replacement in _INSIDE:
            tidied = pattern.sub(replacement, tidied)
        renamed[tidied] = full
    if len(renamed) == len(own) and renamed.keys() != own.keys():
        yield View(prefix, renamed)


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
    for view in views({name: shapes[path] for name, path in by_name.items()}):
        prefix, own = view.prefix, view.own
        if prefix and 2 * len(own) < required:
            continue  # a piece of something; also what keeps a file of countless prefixes cheap to refuse
        mismatch = compare(prefix, {name: shapes[by_name[full]] for name, full in own.items()}, expected)
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


def compare(prefix: str, own: Mapping[str, Shape], expected: Mapping[str, Shape]) -> Mismatch:
    """How ``own``, the shapes under ``prefix``, differ from those of the network; heads and batch counters may."""
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
