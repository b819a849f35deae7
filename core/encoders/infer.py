"""Reading the architecture out of names and shapes, when no card says it and exactly one reading fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.encoders.card import SAMPLE_CARD, EncoderCard
from core.encoders.placement import Path, Shape, View, flat_names, views
from core.encoders.shape_index import architectures_by_fingerprint, default_card, fingerprints
from core.errors import UnsupportedInput

_FEWEST_TENSORS = 8  # a prefix holding fewer is a piece of something


@dataclass(frozen=True)
class InferredCard:
    """A card that nobody wrote, and what was assumed in it."""

    card: EncoderCard
    assumptions: tuple[str, ...]


def infer_card(shapes: Mapping[Path, Shape]) -> InferredCard:
    """The card of a checkpoint that comes without one.

    torchvision's reading goes before timm's, whose networks of the same shapes are the same network or rare variants.
    A first convolution of another kernel fits only loosely: its stride leaves no trace in the shapes, so it is never
    guessed.

    Raises:
        UnsupportedInput: ``ambiguous_architecture`` naming the candidates, ``missing_card`` when nothing fits.
    """
    by_name = flat_names(shapes)
    exact_table, loose_table = architectures_by_fingerprint()
    exact: dict[str, None] = {}
    loose: dict[str, View] = {}
    for view in views(by_name):
        if len(view.own) < _FEWEST_TENSORS:
            continue
        first, second = fingerprints({name: shapes[by_name[full]] for name, full in view.own.items()})
        if view.max_pool_removed:
            loose |= dict.fromkeys(exact_table.get(first, ()), view)
        else:
            exact |= dict.fromkeys(exact_table.get(first, ()))
        loose |= dict.fromkeys(loose_table.get(second, ()), view)
    own = [name for name in exact if name.startswith("torchvision/")]
    readings = own or list(exact)
    if len(readings) == 1:
        return InferredCard(
            default_card(readings[0]), _assumptions(readings[0], [n for n in exact if n != readings[0]])
        )
    if readings:
        sample = default_card(readings[0]).to_json()
        raise _ambiguous(f"weights that fit {_some(readings)} equally well", sample)
    if loose:
        name, view = next(iter(loose.items()))
        kernels = {n: shapes[by_name[full]][2:] for n, full in view.own.items()}
        raise _ambiguous(
            f"weights close to {_some(list(loose))}, with another first layer or input size",
            _variant(name, view, kernels),
        )
    raise UnsupportedInput(
        "missing_card",
        field="card",
        found="no encoder card, and names and shapes that fit no known architecture",
        expected="a card that says what the weights are",
        action=f"Write a card beside the file (NAME.card.json) or pass it with --card, for instance "
        f"{json.dumps(dict(SAMPLE_CARD))}",
    )


def _assumptions(reading: str, others: list[str]) -> tuple[str, ...]:
    card = default_card(reading)
    sentences = [
        f"No card was given: read from names and shapes as {reading}, with that network's usual input size "
        f"{card.image_size[0]}x{card.image_size[1]}, mean {list(card.mean)} and std {list(card.std)}."
    ]
    if others:
        sentences.append(f"{len(others)} timm networks have the same names and shapes ({_some(others)}).")
    return tuple(sentences)


def _variant(name: str, view: View, kernels: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """A card for a small-image variant of ``name``: the sizes that are seen, and a guess at those that are not."""
    card = default_card(name).to_json()
    stem = next((n for n in ("conv1.weight",) if len(kernels.get(n, ())) == 2), None)
    if stem is not None:
        kernel = kernels[stem]
        small = {"kernel_size": list(kernel), "stride": [1, 1], "padding": [side // 2 for side in kernel]}
        card["overrides"] = {stem.removesuffix(".weight"): small}
        if view.max_pool_removed or max(kernel) < 7:
            card["overrides"]["maxpool"] = "identity"
        card["input_size"] = 32
    return card


def _ambiguous(found: str, sample: Mapping[str, Any]) -> UnsupportedInput:
    return UnsupportedInput(
        "ambiguous_architecture",
        field="card",
        found=found,
        expected="an encoder card: strides, removed layers and normalisation leave no trace in names and shapes",
        action="Write a card beside the file (NAME.card.json) or pass it with --card; check each value of this sample: "
        f"{json.dumps(sample)}",
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
