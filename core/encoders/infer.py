"""Reading the architecture out of names and shapes, when no card says it and one reading fits.

torchvision's reading goes before timm's. Where several readings give different features, because the networks compute
otherwise or their published weights want other pixels, the file's own names may decide (``families``); if they do not,
the user is asked. Whatever was taken without a card's word is said in a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.encoders.absent_layers import without_absent
from core.encoders.alike import alike
from core.encoders.card import SAMPLE_CARD, EncoderCard
from core.encoders.clip_names import clip_cards, question, trunk_cards, trunk_question
from core.encoders.dinov2_names import as_timm
from core.encoders.families import Family, family_of
from core.encoders.nearest import nearest_in_words
from core.encoders.placement import Path, Shape, View, flat_names, views
from core.encoders.pretrained import Pixels, normalisation_words, published_pixels
from core.encoders.samples import variants
from core.encoders.shape_index import architectures_by_fingerprint, default_card, fingerprints
from core.encoders.tower_names import kinds_of, looks_like_tower, what_to_give
from core.errors import UnsupportedInput

_FEWEST_TENSORS = 8  # a prefix holding fewer is a piece of something
_SAMPLES = 3
_SAYS_ARCHITECTURE = ("arch", "architecture", "model_name")


@dataclass(frozen=True)
class InferredCard:
    """A card that nobody wrote, and what was assumed in it. ``size_assumed``: nothing in the file shows the input
    size."""

    card: EncoderCard
    assumptions: tuple[str, ...]
    size_assumed: bool


@dataclass(frozen=True)
class _Reading:
    """One way to read the file: architectures that compute the same, and the pixels they want."""

    architectures: tuple[str, ...]
    pixels: Pixels

    @property
    def card(self) -> EncoderCard:
        default = default_card(self.architectures[0])
        side = default.input_size if default.image_size[0] in self.pixels.sizes else self.pixels.sizes[0]
        return default.model_copy(update={"mean": self.pixels.mean, "std": self.pixels.std, "input_size": side})

    @property
    def words(self) -> str:
        tags = f" (as {_some(self.pixels.tags, 2)})" if self.pixels.tags else ""
        return f"{self.architectures[0]} with {self.pixels.words}{tags}"


def infer_card(shapes: Mapping[Path, Shape], scalars: Mapping[Path, Any] | None = None) -> InferredCard:
    """The card of a checkpoint that comes without one. ``scalars`` are the numbers and words beside its tensors.

    Raises:
        UnsupportedInput: ``ambiguous_architecture`` naming the readings, ``missing_card`` when nothing fits.
    """
    by_name = flat_names(shapes)
    exact, loose = _candidates(shapes, by_name)
    said = _said_by_the_file(scalars or {})
    if exact:
        if cards := trunk_cards({name: shapes[path] for name, path in by_name.items()}, exact):
            raise _ambiguous(trunk_question(cards), cards)
        named = [name for name in exact if name.partition("/")[2] == said]
        sized = any(name.rpartition(".")[2] in ("pos_embed", "pos_embedding") for name in by_name)
        chosen = _choose(named or list(exact), family_of(by_name), said if named else None, sized=sized)
        card, further = without_absent(chosen.card, _own(exact[chosen.card.architecture], shapes, by_name))
        return replace(chosen, card=card, assumptions=(*chosen.assumptions, *further))
    if cards := clip_cards({name: shapes[path] for name, path in by_name.items()}):
        raise _ambiguous(question(cards), cards)
    if loose:
        first = next(iter(loose.values()))
        own = _own(first, shapes, by_name)
        alternatives = [name for name, view in loose.items() if view is first]
        samples = list(variants(alternatives, own, without_max_pool=first.max_pool_removed))
        if samples:
            fitting = [card.architecture for card in samples]
            raise _ambiguous(
                f"weights close to {_some(fitting)}, with another first layer or input size", _distinct(samples)
            )
    raise UnsupportedInput(
        "missing_card",
        field="card",
        found="no encoder card, and names and shapes that fit no known architecture; " + nearest_in_words(shapes),
        expected="weights of a network of torchvision, timm, transformers or open_clip, and a card that says which",
        action="A network of your own that is none of these cannot be described, and so not audited. Otherwise write a "
        "card beside the file (NAME.card.json) or pass it with --card; this is its form, with the values of a "
        f"ResNet-18 for small images: {json.dumps(dict(SAMPLE_CARD))}",
    )


def corrected_card(shapes: Mapping[Path, Shape], scalars: Mapping[Path, Any] | None = None) -> str:
    """What to do about a card that does not fit the file: the card that does, where names and shapes show it."""
    try:
        fitting = infer_card(shapes, scalars).card
    except UnsupportedInput as failure:
        if failure.problem.code == "ambiguous_architecture":
            return f"Correct the card. {failure.problem.action}"
        names = list(flat_names(shapes))
        if looks_like_tower(names):
            return f"These are names of the transformers library. {what_to_give(kinds_of(names))}"
        return "Correct the card's architecture or overrides."
    return f"Correct the card; check each value of this sample, which fits the file: {json.dumps(fitting.to_json())}"


def _candidates(shapes: Mapping[Path, Shape], by_name: Mapping[str, Path]) -> tuple[dict[str, View], dict[str, View]]:
    """Architectures that fit exactly, and those that fit but for the first convolution or the input size, and where.

    A first convolution of another kernel fits only loosely: its stride leaves no trace in the shapes, so it is never
    guessed.
    """
    exact_table, loose_table = architectures_by_fingerprint()
    exact: dict[str, View] = {}
    loose: dict[str, View] = {}
    for view in views({name: shapes[path] for name, path in by_name.items()}):
        if len(view.own) < _FEWEST_TENSORS:
            continue
        first, second = fingerprints(_own(view, shapes, by_name))
        if view.max_pool_removed:
            loose |= dict.fromkeys(exact_table.get(first, ()), view)
        else:
            for name in _of(view, exact_table.get(first, ())):
                exact.setdefault(name, view)
        for name in _of(view, loose_table.get(second, ())):
            loose.setdefault(name, view)
    return exact, loose


def _own(view: View, shapes: Mapping[Path, Shape], by_name: Mapping[str, Path]) -> dict[str, Shape]:
    """The shapes under ``view``, by the names that torchvision or timm have for them."""
    own = {name: shapes[by_name[full]] for name, full in view.own.items()}
    return as_timm(own) or own


def _of(view: View, architectures: Iterable[str]) -> list[str]:
    """Those of ``architectures`` that compute what the names of ``view`` mean."""
    return [name for name in architectures if name.startswith(view.architectures)]


def _said_by_the_file(scalars: Mapping[Path, Any]) -> str | None:
    """The architecture that the checkpoint names beside its weights, as training scripts write it."""
    for key in _SAYS_ARCHITECTURE:
        if isinstance(value := scalars.get((key,)), str):
            return value.partition(".")[0]
    return None


def _choose(names: Sequence[str], family: Family | None, said: str | None, *, sized: bool) -> InferredCard:
    own = [name for name in names if name.startswith("torchvision/")]
    readings = _readings(own[:1] or names, family)
    if len(readings) > 1:
        raise _ambiguous(
            f"weights that fit {len(readings)} readings with different features: "
            + "; ".join(reading.words for reading in readings[:_SAMPLES])
            + (f"; and {len(readings) - _SAMPLES} more" if len(readings) > _SAMPLES else ""),
            [reading.card for reading in readings[:_SAMPLES]],
        )
    (reading,) = readings
    return InferredCard(
        reading.card, tuple(_assumptions(reading, names, family, said, sized=sized)), size_assumed=not sized
    )


def _readings(names: Sequence[str], family: Family | None) -> list[_Reading]:
    """The readings among ``names`` that give different features, as far as the family leaves a choice."""
    groups = alike([default_card(name) for name in names]) if len(names) > 1 else [0] * len(names)
    found: dict[tuple[int, object, object], _Reading] = {}
    for name, group in zip(names, groups, strict=True):
        for pixels in _pixels(name, family):
            key = (group, pixels.mean, pixels.std)
            known = found.get(key, _Reading((), pixels))
            both = Pixels(
                pixels.mean,
                pixels.std,
                tuple(dict.fromkeys((*known.pixels.sizes, *pixels.sizes))),
                tuple(dict.fromkeys((*known.pixels.tags, *pixels.tags))),
            )
            # The architecture whose published weights bear the family's own tag is the one that its authors mean.
            first = family is not None and family.tag is not None and any(t.startswith(family.tag) for t in pixels.tags)
            order = (name, *known.architectures) if first else (*known.architectures, name)
            found[key] = _Reading(order, both)
    return list(found.values())


def _pixels(name: str, family: Family | None) -> tuple[Pixels, ...]:
    published = published_pixels(name)
    if family is None:
        return published
    fitting = [row for row in published if (row.mean, row.std) == (family.mean, family.std)]
    return tuple(fitting) or (Pixels(family.mean, family.std, published[0].sizes, ()),)


def _assumptions(
    reading: _Reading, names: Sequence[str], family: Family | None, said: str | None, *, sized: bool
) -> list[str]:
    card = reading.card
    size = f"{card.image_size[0]}x{card.image_size[1]}"
    by = f"the file itself names {said}" if said else "by names and shapes alone"
    why = (
        f"as {family.name} uses them (the file holds {family.sign})"
        if family
        else f"as its published weights in {card.architecture.partition('/')[0]} use them"
    )
    sentences = [f"No card was given: read as {card.architecture}, {by}; {reading.pixels.words}, {why}."]
    if sized:
        sentences.append(f"The input size {size} is what the position embeddings show.")
    else:
        others = [side for side in reading.pixels.sizes if side != card.image_size[0]]
        also = f"; published weights also take {', '.join(map(str, others[:4]))}" if others else ""
        sentences.append(f"Nothing in the file shows the input size: {size} is the usual one{also}.")
    sentences += _others(reading, names, said)
    return sentences


def _others(reading: _Reading, names: Sequence[str], said: str | None) -> list[str]:
    """What else has these names and shapes: networks that compute otherwise, published weights for other pixels."""
    chosen = reading.architectures[0]
    rest = [name for name in names if name not in reading.architectures]
    groups = alike([default_card(chosen), *map(default_card, rest)]) if rest else [0]
    unlike = [name for name, group in zip(rest, groups[1:], strict=True) if group != groups[0]]
    sentences = []
    if unlike and said is None:
        sentences.append(f"The same names and shapes, and other features: {_some(unlike)}.")
    twins = [name for name in names if name not in unlike]
    taken = (reading.pixels.mean, reading.pixels.std)
    rows = [row for name in twins for row in published_pixels(name) if (row.mean, row.std) != taken and row.tags]
    for row in rows[:3]:
        words = normalisation_words(row.mean, row.std)
        sentences.append(f"Published weights of the same names and shapes want {words}: {_some(row.tags, 3)}.")
    return sentences


def _distinct(cards: Sequence[EncoderCard]) -> list[EncoderCard]:
    """Of cards that differ only in the architecture's name one each."""
    seen: dict[str, EncoderCard] = {}
    for card in cards:
        seen.setdefault(json.dumps({**card.to_json(), "architecture": ""}, sort_keys=True), card)
    return list(seen.values())[:_SAMPLES]


def _ambiguous(found: str, samples: Sequence[EncoderCard]) -> UnsupportedInput:
    first, *others = (json.dumps(card.to_json()) for card in samples)
    further = f"other readings: {'; '.join(others)}; " if others else ""
    return UnsupportedInput(
        "ambiguous_architecture",
        field="card",
        found=found,
        expected="an encoder card: strides, removed layers and normalisation leave no trace in names and shapes",
        action="Write a card beside the file (NAME.card.json) or pass it with --card; "
        f"{further}check each value of this sample: {first}",
    )


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
