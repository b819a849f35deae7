"""The only door for weights: a file from anybody, checked, becomes an :class:`Encoder`.

In order: the file's form is recognised by its bytes; a cheap inspection refuses what is damaged or hostile; a PyTorch
checkpoint is opened in a child process; the card is found or inferred; names and shapes must fit the architecture
exactly; every number must be finite.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from core.encoders.architectures import build_backbone, shapes_of, state_from_file, state_in_file, untagged
from core.encoders.card import EncoderCard, parse_card
from core.encoders.copies import Choice, choose_copy, copy_alone
from core.encoders.file_kind import FileKind, recognise
from core.encoders.folder import CONFIG, Folder, FolderForm, folder_around, opened_folder, read_folder
from core.encoders.hf_config import describe, looks_like_tower, needs_config
from core.encoders.infer import corrected_card, infer_card
from core.encoders.inspect_pickle import inspect_legacy_checkpoint
from core.encoders.inspect_safetensors import inspect_safetensors
from core.encoders.inspect_zip import inspect_zip_checkpoint
from core.encoders.nearest import nearest_in_words
from core.encoders.parts import take
from core.encoders.placement import Mismatch, Placement, search, unrecognised
from core.encoders.pretrained import completed
from core.encoders.reading import ASSUMED, GIVEN, OWN, Reading, audited
from core.encoders.sandbox import Checkpoint, open_checkpoint
from core.encoders.timm_names import converted
from core.encoders.tower_rows import is_tower
from core.encoders.transformers_models import is_unused
from core.errors import UnsupportedInput, UsageError
from core.types import Encoder

CARD_KEY = "encoder_card"
# Types of numbers, containers and parsed arguments: no news.
_TORCHS_OWN = ("torch.", "numpy.", "builtins.", "__builtin__.", "typing.", "argparse.Namespace", "__torch__.")


@dataclass(frozen=True)
class SourceForm:
    """All that writing an encoder in the form in which it came needs.

    ``tensors`` is everything the file held, heads included, with its own dtypes, by path through nested dicts (for
    safetensors a path of one part). ``placements`` are the copies of the encoder in it, the audited one first.
    """

    is_checkpoint: bool
    tensors: Mapping[tuple[str, ...], Tensor]
    placements: tuple[Placement, ...] = ()
    scalars: Mapping[tuple[str, ...], Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()  # sentences on what was passed over in reading the file
    folder: FolderForm | None = None  # the files that the tensors lay in, where a whole folder came


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
    if card is not None and not _may_be_partial(card):
        parse_card(completed(card))  # what is wrong with it is said before the file is read
    source, digest, described = _read_any(path, name)
    shapes = {key: tuple(tensor.shape) for key, tensor in source.tensors.items()}
    found, origin, assumed, size_assumed = _find_card(card, described, source, path, shapes)
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


def _find_card(
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
        return beside[0], f"read by the card beside the file, {beside[1]}", (), False
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
            raise needs_config() from failure
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
    card = parse_card(completed({**base, **given}))
    return card, GIVEN + (f", the rest {_by_files(described)}" if base and described else ""), assumptions


def _may_be_partial(card: Mapping[str, Any]) -> bool:
    """Whether a folder's own files may have the rest of ``card``."""
    return isinstance(card, Mapping) and str(card.get("architecture", "transformers/")).startswith("transformers/")


def _by_files(folder: Folder) -> str:
    return "read by config.json" + (" and preprocessor_config.json" if folder.preprocessor is not None else "")


def _read_any(path: Path, name: str) -> tuple[SourceForm, str, Folder | None]:
    """What lies at ``path``, its digest, and the descriptions beside its weights where there are any."""
    with opened_folder(path) as opened:
        if opened is None:
            source, digest = _read(path, name)
            return source, digest, folder_around(path, name, source)
        parts: list[SourceForm] = []

        def read(file: Path, part: str) -> SourceForm:
            parts.append(_read(file, part)[0])
            return parts[-1]

        folder = read_folder(*opened, read)
    remarks = tuple(sentence for part in parts for sentence in part.remarks)
    left_out = tuple(left for part in parts for left in part.left_out)
    source = SourceForm(
        parts[0].is_checkpoint,
        MappingProxyType(dict(folder.tensors)),
        metadata=folder.metadata,
        left_out=left_out,
        remarks=remarks,
        folder=folder.form,
    )
    return source, folder.digest, folder


def _read(path: Path, name: str) -> tuple[SourceForm, str]:
    if not path.is_file():
        raise UsageError(
            "no_such_file",
            field="encoder",
            found=f"no file at {path}",
            expected="a file of encoder weights",
            action="Check the path.",
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
        file.seek(0)
        kind = recognise(file, size, name)
        file.seek(0)
        if kind is FileKind.SAFETENSORS:
            source = _read_safetensors(path, file, size)
        else:
            source = _read_checkpoint(file, size, zipped=kind is FileKind.ZIP_CHECKPOINT)
    return source, digest


def _read_safetensors(path: Path, file: BinaryIO, size: int) -> SourceForm:
    header = inspect_safetensors(file, size)
    with safe_open(path, framework="pt") as opened:
        tensors: dict[tuple[str, ...], Tensor] = {(key,): opened.get_tensor(key) for key in header.shapes}
    return SourceForm(is_checkpoint=False, tensors=MappingProxyType(tensors), metadata=header.metadata)


def _read_checkpoint(file: BinaryIO, size: int, *, zipped: bool) -> SourceForm:
    if zipped:
        inspect_zip_checkpoint(file, size)
    else:
        inspect_legacy_checkpoint(file)
    opened = open_checkpoint(file)
    return SourceForm(
        is_checkpoint=True,
        tensors=MappingProxyType(dict(opened.tensors)),
        scalars=opened.scalars,
        left_out=opened.left_out,
        remarks=tuple(_passed_over(opened)),
    )


def _passed_over(opened: Checkpoint) -> Iterator[str]:
    """What a checkpoint holds besides tensors and plain values, in sentences."""
    if opened.emptied:
        names = _some_names([name for name in opened.emptied if not name.startswith("torch.nn.")] or opened.emptied, 2)
        yield f"The file holds whole objects ({names}): their weights were read, their code was not imported nor run."
    skipped = [name for name in opened.skipped if not name.startswith(_TORCHS_OWN)]
    if skipped:
        yield f"Objects beside the weights were passed over, neither imported nor run: {_some_names(skipped)}."
    if count := len(opened.left_out):
        few = _some_names([name.rpartition(".")[2] or name for name in opened.left_out])
        yield f"{count} {'tensor' if count == 1 else 'tensors'} under names that no state dict has, left out: {few}."


def _some_names(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(ascii(name)[1:-1][:80] for name in names[:most]) + (", ..." if len(names) > most else "")


def _own_card(source: SourceForm) -> EncoderCard | None:
    text = source.metadata.get(CARD_KEY, source.scalars.get((CARD_KEY,)))
    return None if text is None else _card_from_text(str(text), "encoder.card")


def _card_beside(path: Path) -> tuple[EncoderCard, str] | None:
    """A card in a JSON file of the same name, and that name: ``x.card.json`` must be one, ``x.json`` may be something
    else."""
    for beside in (path.with_suffix(".card.json"), path.with_name(path.name + ".card.json")):
        if beside.is_file():
            return _card_from_text(beside.read_text(encoding="utf-8", errors="replace"), beside.name), beside.name
    plain = path.with_suffix(".json")
    if plain.is_file() and "encoder-card/" in (text := plain.read_text(encoding="utf-8", errors="replace")):
        return _card_from_text(text, plain.name), plain.name
    return None


def _card_from_text(text: str, where: str) -> EncoderCard:
    try:
        mapping = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise UnsupportedInput(
            "invalid_card",
            field=where,
            found="text that is not JSON",
            expected="an encoder card, encoder-card/1",
            action="Correct the card, or give one in the request.",
        ) from failure
    return parse_card(completed(mapping), where, UnsupportedInput)


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
    names = _some_names(list(placement.computed), 4)
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
    counters = {key: value for key, value in state_in_file(backbone).items() if key in placement.absent}
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
