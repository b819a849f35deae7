"""What lies in a file of weights, or in a folder of them: everything it held, read by guarded readers only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

from safetensors import safe_open
from torch import Tensor

from core.encoders.file_kind import FileKind, recognise
from core.encoders.folder import Folder, FolderForm, folder_around, opened_folder, read_folder
from core.encoders.inspect_pickle import inspect_legacy_checkpoint
from core.encoders.inspect_safetensors import inspect_safetensors
from core.encoders.inspect_zip import inspect_zip_checkpoint
from core.encoders.placement import Placement
from core.encoders.sandbox import Checkpoint, open_checkpoint
from core.errors import UsageError

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


def read_source(path: Path, name: str) -> tuple[SourceForm, str, Folder | None]:
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
        names = some_names([name for name in opened.emptied if not name.startswith("torch.nn.")] or opened.emptied, 2)
        yield f"The file holds whole objects ({names}): their weights were read, their code was not imported nor run."
    skipped = [name for name in opened.skipped if not name.startswith(_TORCHS_OWN)]
    if skipped:
        yield f"Objects beside the weights were passed over, neither imported nor run: {some_names(skipped)}."
    if count := len(opened.left_out):
        few = some_names([name.rpartition(".")[2] or name for name in opened.left_out])
        yield f"{count} {'tensor' if count == 1 else 'tensors'} under names that no state dict has, left out: {few}."


def some_names(names: Sequence[str], most: int = 6) -> str:
    """The first ``most`` of ``names``, escaped, for a sentence."""
    return ", ".join(ascii(name)[1:-1][:80] for name in names[:most]) + (", ..." if len(names) > most else "")
