"""Which copy of the encoder is in use, where a file holds several.

Training code keeps a student beside its teacher, a query encoder beside its key encoder, weights beside their moving
average. The authors of each family evaluate one of them, and so does everybody after them; ``CONVENTIONS`` says which.
The user's own word (``--copy``, or ``copy`` in the card) goes before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.encoders.placement import Placement
from core.errors import UnsupportedInput, UsageError


@dataclass(frozen=True)
class Convention:
    """Of copies under names that ``used`` matches and others that ``beside`` matches, the first are in use.

    Both patterns are searched for in a copy's dotted prefix with a dot at each end (``.teacher.backbone.``); a copy
    that both match counts as ``used``. ``reason`` says what the copy is and who uses it.
    """

    used: re.Pattern[str]
    beside: re.Pattern[str]
    reason: str


def _row(used: str, beside: str, reason: str) -> Convention:
    return Convention(re.compile(rf"\.(?:{used})\."), re.compile(rf"\.(?:{beside})\."), reason)


_PLAIN = r"state_dict|model_state_dict|model_state|model|net|network|module|weights|params|student|encoder|backbone"
_SLOW = (
    r"encoder_k|key_encoder|k_encoder|momentum|momentum_\w+|\w+_momentum|\w+_m|shadow|shadow_\w+|slow|slow_\w+|"
    r"key_\w+|\w+_key"
)

CONVENTIONS: tuple[Convention, ...] = (
    _row(
        r"(?:state_dict|model|net|network|encoder|backbone|weights|params)_ema|ema|ema_(?:model|net|network|weights)|"
        r"averaged_model|swa_model",
        rf"{_PLAIN}|online_model|online_net|online_network",
        "the moving average (EMA) of the weights, which timm, torchvision and kindred training code report and publish",
    ),
    _row(
        r"backbone",
        r"\w+_backbone|backbone_\w+",
        "`backbone`, which solo-learn and lightly evaluate and export, in their momentum and student-teacher methods",
    ),
    _row(
        r"teacher|teacher_\w+|\w+_teacher",
        r"student|student_\w+|\w+_student",
        "the teacher, which DINO, DINOv2, DINOv3, iBOT and EsViT evaluate and publish",
    ),
    _row(r"encoder_q", r"encoder_k", "the query encoder, which MoCo v1 and v2 and their descendants evaluate"),
    _row(r"(?:query|q)_\w+|\w+_query", r"(?:key|k)_\w+|\w+_key", "the query encoder, which MoCo evaluates"),
    _row(r"base_encoder", r"momentum_encoder", "the base encoder, which MoCo v3 evaluates and publishes"),
    _row(
        r"online|online_\w+|\w+_online",
        r"target|target_\w+|\w+_target|momentum|momentum_\w+",
        "the online network, which BYOL evaluates and publishes",
    ),
    _row(
        r"target_encoder\.module",
        r"encoder\.module",
        "the target encoder, which I-JEPA, V-JEPA and MSN evaluate",
    ),
    _row(
        rf"(?!(?:{_SLOW})\.)(?:{_PLAIN}|(?:visual|image|vision|base|main|trained)_encoder|visual|f|encoder_\w)",
        _SLOW,
        "the trained copy, which methods with a momentum encoder evaluate",
    ),
)
"""Tried in this order, each on what the ones before it left."""


@dataclass(frozen=True)
class Choice:
    """``placements`` with the copy in use first; ``words`` say which it is, None where the file holds only one."""

    placements: tuple[Placement, ...]
    words: str | None


def choose_copy(
    found: Sequence[Placement], wanted: str | None, same_weights: Callable[[Placement, Placement], bool]
) -> Choice:
    """The copy to audit among ``found``: the one that ``wanted`` names, else the one that its family evaluates.

    ``wanted`` is a copy's prefix, some of its dotted parts, or a piece of it. Copies that ``same_weights`` calls equal
    are one copy under several names.

    Raises:
        UsageError: ``unknown_copy``, ``wanted`` names none of them.
        UnsupportedInput: ``ambiguous_checkpoint``, neither ``wanted`` nor a convention settles it.
    """
    candidates = list(found) if wanted is None else _named(found, wanted)
    reason = None if wanted is None else f"the copy that was asked for ({ascii(wanted)[1:-1][:80]})"
    for convention in CONVENTIONS:
        kept = _in_use(convention, candidates)
        if len(kept) < len(candidates):
            candidates = kept
            reason = reason or convention.reason
    if not all(same_weights(candidates[0], other) for other in candidates[1:]):
        raise _ambiguous(candidates, found, asked=wanted is not None)
    chosen = candidates[0]
    others = [placement for placement in found if placement is not chosen]
    return Choice((chosen, *others), _words(chosen, others, reason, same_weights))


def copy_alone(card: Mapping[str, Any]) -> str | None:
    """The copy that a card names which says nothing else; None for any other card."""
    copy = card.get("copy") if isinstance(card, Mapping) else None
    return copy if isinstance(copy, str) and set(card) <= {"format", "copy"} else None


def _in_use(convention: Convention, candidates: list[Placement]) -> list[Placement]:
    used = [p for p in candidates if convention.used.search(f".{p.prefix}")]
    rest = [p for p in candidates if p not in used]
    if not used or not all(convention.beside.search(f".{p.prefix}") for p in rest):
        return candidates
    return used


def _named(found: Sequence[Placement], wanted: str) -> list[Placement]:
    word = wanted.strip().strip(".*")
    tests: tuple[Callable[[str], bool], ...] = (
        lambda prefix: prefix == f"{word}.",
        lambda prefix: f".{word}." in f".{prefix}",
        lambda prefix: word in prefix,
    )
    for fits in tests if word else ():
        if named := [placement for placement in found if fits(placement.prefix)]:
            return named
    if len(found) == 1:
        raise UsageError(
            "unknown_copy",
            field="copy",
            found=f"no copy of the encoder called {ascii(wanted)[:80]}: the file holds one encoder, {_name(found[0])}",
            expected="no name of a copy, where there is one only",
            action="Leave copy out.",
        )
    raise UsageError(
        "unknown_copy",
        field="copy",
        found=f"no copy of the encoder called {ascii(wanted)[:80]}",
        expected="one of " + ", ".join(map(_name, found[:8])),
        action=f"Give one of these names, or leave it out: {_options(found)}.",
    )


def _ambiguous(candidates: Sequence[Placement], found: Sequence[Placement], *, asked: bool) -> UnsupportedInput:
    few = candidates if asked else found
    return UnsupportedInput(
        "ambiguous_checkpoint",
        field="copy",
        found=f"{len(few)} copies of the encoder with different weights: " + ", ".join(map(_name, few[:8])),
        expected="to be told which copy is in use, since no known training code names its copies so",
        action=f"Add one of {_options(candidates)}, or put that name into the card as 'copy'.",
    )


def _options(placements: Sequence[Placement]) -> str:
    return ", ".join(f"--copy {_name(placement)}" for placement in placements[:8])


def _name(placement: Placement) -> str:
    return ascii(placement.prefix.strip("."))[1:-1][:120] or "(the file itself)"


def _words(
    chosen: Placement,
    others: Sequence[Placement],
    reason: str | None,
    same_weights: Callable[[Placement, Placement], bool],
) -> str | None:
    if not others:
        return None
    if reason is None or all(same_weights(chosen, other) for other in others):
        reason = "one of several copies with the same weights"
    listed = ", ".join(f"{_name(other)}.*" for other in others[:6]) + (", ..." if len(others) > 6 else "")
    return f"of its copies {_name(chosen)}.*, {reason}; also in the file: {listed}"
