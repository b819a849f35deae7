"""Writing an encoder in the form in which it came: same names, heads, dtypes and metadata, other weights."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from core.encoders.architectures import state_in_file
from core.encoders.card import EncoderCard
from core.encoders.find_card import CARD_KEY
from core.encoders.load import LoadedEncoder
from core.encoders.parts import put, take
from core.encoders.placement import Placement
from core.encoders.source import SourceForm
from core.encoders.write_folder import write_folder
from core.errors import AuditFailed, UsageError
from core.types import Encoder

_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".tar", ".ckpt", ".bin")


def write_encoder(loaded: LoadedEncoder, encoder: Encoder, path: Path) -> None:
    """Write the weights of ``encoder``, which came from ``loaded``, to ``path``, whole or not at all.

    The suffix chooses the container: ``.safetensors``, or ``.pt``/``.pth`` with the wrapper the file had; for what came
    as a folder or a zip of one ``.zip``, or a folder under any other suffix (see ``write_folder``). The card
    goes into the metadata (in a wrapped checkpoint, beside the state dict; a bare state dict in ``.pt`` has no place
    for it). Momentum copies of the encoder in the same file receive the same weights, so that no copy of the old ones
    is left; projection heads stay as they were, an optimizer's state is left out.

    Raises:
        UsageError: the suffix names no container.
        AuditFailed: a weight does not fit the file's dtype.
    """
    if loaded.source.placements[0].computed:
        loaded = _in_its_own_names(loaded)
    tensors = _new_tensors(loaded.source, encoder)
    suffix = path.suffix.lower()
    if loaded.source.folder is not None and suffix != ".safetensors":
        return write_folder(loaded.source.folder, tensors, _card_text(None, loaded.card), path)
    if suffix != ".safetensors" and suffix not in _CHECKPOINT_SUFFIXES:
        raise UsageError(
            "unknown_container",
            field="output",
            found=f"the suffix '{path.suffix}'",
            expected=".safetensors, .pt or .pth",
            action="Name the output file accordingly.",
        )
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        if suffix == ".safetensors":
            _write_safetensors(loaded, tensors, temporary)
        else:
            torch.save(_nested(loaded, tensors), temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _in_its_own_names(loaded: LoadedEncoder) -> LoadedEncoder:
    """The same as if it had come as a bare state dict of its architecture's names: some of its weights were computed
    from the file's, and there is no way back."""
    placement = loaded.source.placements[0]
    tensors = loaded.source.tensors
    parts = {key: take(tensors[part.path], part).clone() for key, part in placement.parts.items()}
    weights = {key: tensors[path] for key, path in placement.paths.items()} | parts | dict(placement.computed)
    bare = Placement("", {key: (key,) for key in weights}, ())
    return replace(loaded, source=SourceForm(False, {(key,): tensor for key, tensor in weights.items()}, (bare,)))


def _new_tensors(source: SourceForm, encoder: Encoder) -> dict[tuple[str, ...], Tensor]:
    state = state_in_file(encoder.backbone)
    tensors = dict(source.tensors)
    for placement in source.placements:
        for key, path in placement.paths.items():
            tensors[path] = _as_in_the_file(key, state[key], source.tensors[path].dtype).contiguous().clone()
        for key, part in placement.parts.items():
            tensors[part.path] = put(
                tensors[part.path], part, _as_in_the_file(key, state[key], tensors[part.path].dtype)
            )
    return tensors


def _as_in_the_file(key: str, weight: Tensor, dtype: torch.dtype) -> Tensor:
    new = weight.detach().to("cpu", dtype)
    if new.is_floating_point() and not bool(torch.isfinite(new.float()).all()):
        raise AuditFailed(
            "weights_do_not_fit",
            field="encoder",
            found=f"values of {key} that {dtype} cannot hold",
            expected="finite weights in the file's own dtype",
            action="Convert the input file to float32 and repeat.",
        )
    return new


def _write_safetensors(loaded: LoadedEncoder, tensors: Mapping[tuple[str, ...], Tensor], path: Path) -> None:
    source = loaded.source
    # A checkpoint's wrapper (the dict that held the state dict) has no counterpart here; its neighbours stay behind.
    wrapper = _wrapper(source)
    named = {".".join(p[len(wrapper) :]): t.contiguous() for p, t in tensors.items() if p[: len(wrapper)] == wrapper}
    metadata = {"format": "pt"} | dict(source.metadata)
    metadata[CARD_KEY] = _card_text(source.metadata.get(CARD_KEY), loaded.card)
    save_file({name: tensor.clone() for name, tensor in named.items()}, path, metadata=metadata)


def _card_text(original: str | None, card: EncoderCard) -> str:
    """The file's own card to the letter if it says the same, else the card that was used."""
    if original is not None:
        known = EncoderCard.model_validate(json.loads(original))
        if known.model_copy(update={"feature_dim": card.feature_dim}) == card:
            return original
    return json.dumps(_without_copy(card).to_json())


def _without_copy(card: EncoderCard) -> EncoderCard:
    """All copies hold the same weights now, and some may be gone: the card need not say which is meant."""
    return card.model_copy(update={"audited_copy": None})


def _nested(loaded: LoadedEncoder, tensors: Mapping[tuple[str, ...], Tensor]) -> dict[str, Any]:
    source = loaded.source
    tree: dict[str, Any] = {}
    for path, value in [*tensors.items(), *source.scalars.items()]:
        node = tree
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value
    if _wrapper(source):
        tree[CARD_KEY] = json.dumps(_without_copy(loaded.card).to_json())
    return tree


def _wrapper(source: SourceForm) -> tuple[str, ...]:
    """The dicts around the state dict in a checkpoint; none for a bare state dict."""
    return next(iter(source.placements[0].paths.values()))[:-1]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
