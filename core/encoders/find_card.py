"""The card of a file of weights: given, its own, one beside it, from a folder's configuration, or inferred."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.encoders.card import EncoderCard, parse_card
from core.encoders.folder import CONFIG, Folder
from core.encoders.hf_config import describe
from core.encoders.infer import infer_card
from core.encoders.pretrained import completed
from core.encoders.reading import ASSUMED, GIVEN, OWN
from core.encoders.source import SourceForm
from core.encoders.tower_names import looks_like_tower, needs_config
from core.encoders.tower_rows import is_tower
from core.errors import UnsupportedInput

CARD_KEY = "encoder_card"
"""Under which a file's metadata, or a checkpoint's own values, hold its card."""


def find_card(
    given: Mapping[str, Any] | None,
    described: Folder | None,
    source: SourceForm,
    path: Path,
    shapes: Mapping[tuple[str, ...], tuple[int, ...]],
) -> tuple[EncoderCard, str, tuple[str, ...], bool]:
    """The card, who gave it, what was assumed where nobody did, and whether the input size was."""
    own = _own_card(source)
    if given is not None:
        return *_given(given, own, described, shapes), False
    if own is not None:
        return own, OWN, (), False
    if (beside := _card_beside(path)) is not None:
        mapping, where = beside
        filled, left = _with_config(mapping, shapes) if described is None else (mapping, ())
        card = parse_card(completed(filled), where, UnsupportedInput)
        return card, f"read by the card beside the file, {where}", left, False
    if described is not None:
        told = describe(described.config, described.preprocessor, map(".".join, shapes))
        return (
            parse_card(completed(told.fields), CONFIG, UnsupportedInput),
            _by_files(described),
            tuple(told.assumptions.values()),
            False,
        )
    try:
        inferred = infer_card(shapes, source.scalars)
    except UnsupportedInput as failure:
        if looks_like_tower(map(".".join, shapes)):
            raise needs_config(map(".".join, shapes)) from failure
        raise
    return inferred.card, ASSUMED, inferred.assumptions, inferred.size_assumed


def _given(
    given: Mapping[str, Any],
    own: EncoderCard | None,
    described: Folder | None,
    shapes: Mapping[tuple[str, ...], tuple[int, ...]],
) -> tuple[EncoderCard, str, tuple[str, ...]]:
    """A card that was given; what it leaves out, a folder's own files say, unless it means another architecture."""
    base: Mapping[str, Any] = {} if own is None or described is None else own.to_json()
    assumptions: tuple[str, ...] = ()
    if not base and described is not None and ("architecture" not in given or is_tower(str(given["architecture"]))):
        told = describe(described.config, described.preprocessor, map(".".join, shapes))
        base = told.fields
        assumptions = tuple(sentence for name, sentence in told.assumptions.items() if name not in given)
    if given.get("architecture", base.get("architecture")) != base.get("architecture"):
        base = {}
    if described is None:
        given, assumptions = _with_config(given, shapes)
    card = parse_card(completed({**base, **given}))
    return card, GIVEN + (f", the rest {_by_files(described)}" if base and described else ""), assumptions


def _with_config(
    card: Mapping[str, Any], shapes: Mapping[tuple[str, ...], tuple[int, ...]]
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """``card`` of a tower with what it leaves out, as its ``config`` and the names of the weights tell it; of the
    config.json of a whole model only the tower's part. Any other card as it is."""
    kind, config = card.get("architecture"), card.get("config")
    if not isinstance(kind, str) or not is_tower(kind) or not isinstance(config, Mapping):
        return card, ()
    told = describe({"model_type": kind.partition("/")[2], **config}, None, map(".".join, shapes))
    if told.fields["architecture"] != kind:
        return card, ()
    left = tuple(sentence for name, sentence in told.assumptions.items() if name not in card)
    return {**told.fields, **card, "config": told.fields["config"]}, left


def may_be_partial(card: Mapping[str, Any]) -> bool:
    """Whether a folder's own files may have the rest of ``card``."""
    return isinstance(card, Mapping) and str(card.get("architecture", "transformers/")).startswith("transformers/")


def _by_files(folder: Folder) -> str:
    return "read by config.json" + (" and preprocessor_config.json" if folder.preprocessor is not None else "")


def _own_card(source: SourceForm) -> EncoderCard | None:
    text = source.metadata.get(CARD_KEY, source.scalars.get((CARD_KEY,)))
    if text is None:
        return None
    return parse_card(completed(_card_from_text(str(text), "encoder.card")), "encoder.card", UnsupportedInput)


def _card_beside(path: Path) -> tuple[Mapping[str, Any], str] | None:
    """A card in a JSON file of the same name, and that name: ``x.card.json`` must be one, ``x.json`` may be something
    else."""
    for beside in (path.with_suffix(".card.json"), path.with_name(path.name + ".card.json")):
        if beside.is_file():
            return _card_from_text(beside.read_text(encoding="utf-8", errors="replace"), beside.name), beside.name
    plain = path.with_suffix(".json")
    if plain.is_file() and "encoder-card/" in (text := plain.read_text(encoding="utf-8", errors="replace")):
        return _card_from_text(text, plain.name), plain.name
    return None


def _card_from_text(text: str, where: str) -> Mapping[str, Any]:
    try:
        mapping: Mapping[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise UnsupportedInput(
            "invalid_card",
            field=where,
            found="text that is not JSON",
            expected="an encoder card, encoder-card/1",
            action="Correct the card, or give one in the request.",
        ) from failure
    if not isinstance(mapping, dict):
        parse_card(mapping, where, UnsupportedInput)  # which says that it must be an object
    return mapping
