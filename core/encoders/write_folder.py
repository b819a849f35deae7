"""Writing a Hugging Face folder as it came: the same files, parts, index, names and dtypes, other weights."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from core.encoders.folder import FolderForm, Key


def write_folder(form: FolderForm, tensors: Mapping[Key, Tensor], card: str, path: Path) -> None:
    """Write ``tensors`` to ``path``, whole or not at all: as a zip where its suffix is ``.zip``, else as a new folder.

    ``card`` goes into the metadata of the first part, so that the copy is read as the original was.
    """
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as name:
        folder = Path(name) / "folder"
        folder.mkdir()
        for file, data in form.side.items():
            (folder / file).write_bytes(data)
        for number, (file, keys) in enumerate(form.parts.items()):
            metadata = {"format": "pt"} | dict(form.metadata[file]) | ({} if number else {"encoder_card": card})
            _write_part(folder / file, {key: tensors[key] for key in keys}, metadata)
        if path.suffix.lower() != ".zip":
            folder.rename(path)
            return
        packed = Path(name) / "packed.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for file in (*form.side, *form.parts):
                archive.write(folder / file, (form.top or "") + file)
        packed.replace(path)


def copy_folder(form: FolderForm, source: Path, path: Path) -> None:
    """Copy the files of the encoder in the folder ``source`` byte for byte into a new folder ``path``."""
    path.mkdir()
    for file in (*form.side, *form.parts):
        shutil.copyfile(source / file, path / file)


def _write_part(file: Path, tensors: Mapping[Key, Tensor], metadata: dict[str, str]) -> None:
    if file.suffix == ".safetensors":
        save_file({".".join(key): tensor.contiguous().clone() for key, tensor in tensors.items()}, file, metadata)
        return
    tree: dict[str, Any] = {}
    for key, tensor in tensors.items():
        node = tree
        for step in key[:-1]:
            node = node.setdefault(step, {})
        node[key[-1]] = tensor
    torch.save(tree, file)
