"""The only door for weights: a file from anybody, checked, becomes an :class:`Encoder`.

In order: the file's form is recognised by its bytes; a cheap inspection refuses what is damaged or hostile; a PyTorch
checkpoint is opened in a child process; the card is found or inferred; names and shapes must fit the architecture
exactly; every number must be finite.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.encoders.architectures import build_backbone, shapes_of, state_from_file, state_in_file, untagged
from core.encoders.card import EncoderCard, parse_card
from core.encoders.copies import Choice, choose_copy, copy_alone
from core.encoders.find_card import find_card, may_be_partial
from core.encoders.infer import corrected_card
from core.encoders.nearest import nearest_in_words
from core.encoders.parts import take
from core.encoders.placement import Mismatch, Placement, search, unrecognised
from core.encoders.pretrained import completed
from core.encoders.reading import Reading, audited
from core.encoders.source import SourceForm, read_source, some_names
from core.encoders.timm_names import converted
from core.encoders.tower_rows import is_tower
from core.encoders.transformers_models import is_unused
from core.errors import UnsupportedInput
from core.types import Encoder


@dataclass(frozen=True)
class LoadedEncoder:
    """An encoder ready for audit: on the CPU, float32, eval mode, no gradients, channels-last.

    ``digest`` is the file's SHA-256, ``parameters`` the number of weights, ``dropped`` the names in the file that are
    not part of the encoder (projection heads, momentum copies, optimizer). ``reading`` says what was read and what was
    assumed: the first lines of every answer. ``copy`` says which copy was audited and why, where the file holds
    several; ``reading`` repeats it. ``size_assumed``: nobody gave the input size and nothing in the file shows it.
    """

    encoder: Encoder
    card: EncoderCard
    digest: str
    parameters: int
    dropped: tuple[str, ...]
    reading: Reading
    source: SourceForm
    copy: str | None = None
    size_assumed: bool = False


def load_encoder(
    path: Path, *, card: Mapping[str, Any] | None = None, copy: str | None = None, name: str | None = None
) -> LoadedEncoder:
    """Open the encoder at ``path``: a file of weights, a Hugging Face folder, or a zip of one.

    ``card`` overrides the file's own; ``name`` is the user's name for the file. ``copy`` names the copy to audit where
    the file holds several (see ``copies``) and goes before the card's. A card that says nothing but the copy leaves the
    rest to be read from the file; beside a folder's own config.json a card may say as little as it likes.

    Raises:
        UsageError: no such file, a ``card`` that is not a card, or a ``copy`` that the file does not hold.
        UnsupportedInput: everything else that is wrong with the file; ``problem.code`` says what.
    """
    name = name or path.name
    alone = None if card is None else copy_alone(card)
    card = card if alone is None else None
    if card is not None and not may_be_partial(card):
        parse_card(completed(card))  # what is wrong with it is said before the file is read
    source, digest, described = read_source(path, name)
    shapes = {key: tuple(tensor.shape) for key, tensor in source.tensors.items()}
    found, origin, assumed, size_assumed = find_card(card, described, source, path, shapes)
    assumptions = list(assumed)
    choice = _place(found, source, copy or alone or found.audited_copy)
    placements = choice.placements
    assumptions += _computed(placements[0])
    notes = [*_placement_notes(placements), *source.remarks]
    encoder = _build(found, source, placements[0], name)
    placed_at = placements[0]
    used = {*placed_at.paths.values(), *placed_at.read, *(part.path for part in placed_at.parts.values())}
    dropped = tuple(".".join(key) for key in shapes if key not in used) + source.left_out
    copies = {".".join(path) for placement in placements for path in placement.paths.values()}
    if strange := unrecognised([name for name in dropped if name not in copies]):
        assumptions.append(
            "Not part of the encoder and not audited: " + ", ".join(strange[:8]) + ("..." * (len(strange) > 8)) + "."
        )
    parameters = sum(p.numel() for p in encoder.backbone.parameters())
    placed = replace(source, placements=placements)
    card_found = found.model_copy(update={"feature_dim": encoder.feature_dim}) if found.feature_dim is None else found
    reading = Reading(audited(card_found, origin, copy=choice.words or ""), tuple(assumptions), tuple(notes))
    return LoadedEncoder(encoder, card_found, digest, parameters, dropped, reading, placed, choice.words, size_assumed)


def _place(card: EncoderCard, source: SourceForm, copy: str | None) -> Choice:
    def same_weights(one: Placement, other: Placement) -> bool:
        first, second = _weights(source, one), _weights(source, other)
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)

    backbone = build_backbone(card, device="meta")
    expected = shapes_of(backbone)
    shapes = {key: tuple(tensor.shape) for key, tensor in source.tensors.items()}
    if is_tower(card.architecture):
        shapes = {key: shape for key, shape in shapes.items() if not is_unused(".".join(key), expected)}
    found = search(shapes, expected)
    if not found.placements and (translated := converted(card, source.tensors, backbone)).placements:
        found = translated
    if found.placements:
        if found.placements[0].max_pool_removed and card.overrides.get("maxpool") != "identity":
            raise UnsupportedInput(
                "keys_do_not_match",
                field="card.overrides.maxpool",
                found="numbered layers among which the max-pool is missing, and a card that keeps it",
                expected="a card that says 'maxpool': 'identity'",
                action="Add the override to the card.",
            )
        return choose_copy(found.placements, copy, same_weights)
    nearest = found.nearest or Mismatch("", (), (), ())
    raise UnsupportedInput(
        "keys_do_not_match",
        field="encoder",
        found=f"weights that are not those of {card.architecture}"
        + (f" (looked under {nearest.prefix!a})" if nearest.prefix else "")
        + _first_few("missing", nearest.missing)
        + _first_few("unexpected", nearest.unexpected)
        + _first_few("of another shape", nearest.reshaped)
        + f"; {nearest_in_words(shapes)}",
        expected="exactly the names and shapes of the card's architecture, heads aside",
        action=corrected_card(shapes, source.scalars),
    )


def _first_few(what: str, names: tuple[str, ...]) -> str:
    if not names:
        return ""
    shown = ", ".join(ascii(name)[1:-1][:100] for name in names[:4])
    return f"; {len(names)} {what}: {shown}" + (", ..." if len(names) > 4 else "")


def _computed(placement: Placement) -> list[str]:
    if placement.positions is not None:
        height, width = placement.positions
        return [
            f"The file's position embeddings are made for {height}x{width} pixels and resampled to the card's input "
            "size as timm does it (bicubic, antialiased); a purified copy has them in the file's size."
        ]
    if not placement.computed:
        return []
    names = some_names(list(placement.computed), 4)
    return [
        f"Not as they stand in the file, but as timm converts published files to this size and its names: {names}. "
        "A purified copy is written in timm's names."
    ]


def _placement_notes(placements: tuple[Placement, ...]) -> list[str]:
    absent = [name for name in placements[0].absent if name.endswith("num_batches_tracked")]
    return [f"The file lacks {len(absent)} batch counters, which do not change any feature."] if absent else []


def _weights(source: SourceForm, placement: Placement) -> dict[str, Tensor]:
    parts = {key: take(source.tensors[part.path], part) for key, part in placement.parts.items()}
    return {key: source.tensors[path] for key, path in placement.paths.items()} | parts | dict(placement.computed)


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(_as_float32(one), _as_float32(other))


def _build(card: EncoderCard, source: SourceForm, placement: Placement, name: str) -> Encoder:
    state = _weights(source, placement)
    for key, tensor in state.items():
        _require_finite(key, tensor)
    backbone = build_backbone(card, positions=placement.positions)
    in_file = state_in_file(backbone)
    for key, tensor in state.items():
        _require_real_numbers(key, tensor, in_file[key])
    counters = {key: value for key, value in in_file.items() if key in placement.absent}
    own = backbone.state_dict()
    floats = {key: _as_float32(value) for key, value in state.items()} | counters
    weights = OrderedDict(state_from_file(backbone, floats))
    weights._metadata = getattr(own, "_metadata", None)  # type: ignore[attr-defined]  # versions that MNASNet asks for
    backbone.load_state_dict(weights, strict=True)
    backbone.requires_grad_(False).eval().to(memory_format=torch.channels_last)
    encoder = Encoder(
        backbone,
        name=name,
        image_size=card.image_size,
        feature_dim=0,
        mean=card.mean,
        std=card.std,
        architecture=untagged(card.architecture),
    ).eval()
    encoder.feature_dim = _feature_dim(encoder, card)
    return encoder


def _as_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _require_real_numbers(key: str, tensor: Tensor, wanted: Tensor) -> None:
    """Whole numbers in place of real ones are quantised: their scales lie elsewhere, or nowhere."""
    if wanted.is_floating_point() and not tensor.is_floating_point():
        raise UnsupportedInput(
            "quantised_weights",
            field="encoder",
            found=f"{key} as {str(tensor.dtype).removeprefix('torch.')}",
            expected="floating-point weights (float32, float16, bfloat16, 8-bit floats)",
            action="Give the encoder as it was before quantisation, or a file of its weights turned back into floats.",
        )


def _require_finite(key: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
        bad = int((~torch.isfinite(tensor.float())).sum())
        raise UnsupportedInput(
            "not_finite",
            field="encoder",
            found=f"{key} with {bad} of {tensor.numel()} values that are NaN or infinite",
            expected="finite weights",
            action="The training run that wrote them diverged; use an earlier checkpoint.",
        )


@torch.no_grad()
def _feature_dim(encoder: Encoder, card: EncoderCard) -> int:
    """The length of a feature, from one grey image."""
    height, width = card.image_size
    try:
        features = encoder(torch.full((1, 3, height, width), 0.5))
    except (RuntimeError, AssertionError, ValueError) as failure:
        raise UnsupportedInput(
            "input_size_does_not_fit",
            field="card.input_size",
            found=f"{card.architecture} cannot take {height}x{width} images: {str(failure)[:200]}",
            expected="an input size that the architecture takes",
            action="Correct input_size in the card.",
        ) from failure
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise UnsupportedInput(
            "no_feature_vector",
            field="card.architecture",
            found=f"{card.architecture} returns no single vector per image",
            expected="an architecture that ends in a pooled feature vector",
            action="Choose the classification form of the architecture.",
        )
    if not bool(torch.isfinite(features).all()):
        raise UnsupportedInput(
            "not_finite",
            field="encoder",
            found="features of a plain grey image that are NaN or infinite",
            expected="finite features",
            action="Check the weights and the card's mean and std.",
        )
    if card.feature_dim is not None and card.feature_dim != features.shape[1]:
        raise UnsupportedInput(
            "feature_dim_does_not_match",
            field="card.feature_dim",
            found=f"features of length {features.shape[1]} where the card says {card.feature_dim}",
            expected="the length that the architecture gives",
            action="Correct the card.",
        )
    return int(features.shape[1])
