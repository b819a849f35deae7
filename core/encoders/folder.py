"""A Hugging Face folder, or a zip of one, as the file of an encoder: found, bounded, and read part by part.

Nothing in a folder is trusted: the index may name plain files of the folder only, links lead nowhere else (but for the
cache of the Hugging Face hub, whose files are links into ``blobs`` beside it), a zip is unpacked under limits.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, Protocol

from torch import Tensor

from core.encoders.inspect_safetensors import MAX_TOTAL_BYTES
from core.encoders.tower_names import looks_like_tower
from core.errors import UnsupportedInput

CONFIG, PREPROCESSOR, PROCESSOR = "config.json", "preprocessor_config.json", "processor_config.json"
_WHOLE = ("model.safetensors", "pytorch_model.bin")
_INDEX = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_PART = re.compile(r"[A-Za-z0-9_\-][A-Za-z0-9_.\-]{0,199}\.(safetensors|bin)")
_SHARD = re.compile(r".*-\d{5}-of-\d{5}\.(safetensors|bin)")
_SIDE_SUFFIXES = (".json", ".txt", ".md", ".model", ".yaml", ".jinja")
_OF_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".tar", ".bin", ".npz", ".torch")
_MAX_TEXT = 8 * 2**20
_MAX_SIDE_BYTES = 64 * 2**20
_MAX_PARTS = 512
_MAX_ENTRIES = 2_000
_MOST_INFLATED = 50  # weights hardly compress; more is a bomb

Key = tuple[str, ...]


class Part(Protocol):
    """What reading one file of weights yields."""

    @property
    def tensors(self) -> Mapping[Key, Tensor]: ...
    @property
    def metadata(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class FolderForm:
    """How a folder came, for writing one like it. ``parts`` are the tensors of each file of weights, ``side`` the other
    files as they were; ``top`` is the folder's path inside the zip, None for a folder on disk."""

    parts: Mapping[str, tuple[Key, ...]]
    metadata: Mapping[str, Mapping[str, str]]
    side: Mapping[str, bytes]
    top: str | None


@dataclass(frozen=True)
class Folder:
    """A folder that was read: its weights, its two descriptions (None where absent), a digest of all it was read from,
    and their size in bytes."""

    tensors: Mapping[Key, Tensor]
    metadata: Mapping[str, str]
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any] | None
    digest: str
    form: FolderForm


@contextmanager
def opened_folder(path: Path) -> Iterator[tuple[Path, str | None] | None]:
    """The folder at ``path``, or unpacked from the zip there, and its place in the zip; None for any other file.

    Raises:
        UnsupportedInput: ``unsafe_folder``, a zip that no honest program writes.
    """
    if path.is_dir():
        yield path, None
        return
    top = _top_of_zip(path)
    if top is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="encoder-audit-folder-") as name:
        _unpack(path, top, Path(name))
        yield Path(name), top


def read_folder(folder: Path, top: str | None, read: Callable[[Path, str], Part]) -> Folder:
    """All of ``folder``; ``read`` opens one file of weights through its own gates.

    Raises:
        UnsupportedInput: no description, no weights, a part missing, or an index that names what it must not.
    """
    config = read_json(_plain_file(folder, CONFIG))
    if config is None:
        _refuse_plain_folder(folder)
    tensors: dict[Key, Tensor] = {}
    parts: dict[str, tuple[Key, ...]] = {}
    metadata: dict[str, dict[str, str]] = {}
    together: dict[str, str] = {}
    names = _parts(folder)
    files = [_required(folder, name) for name in names]
    if sum(file.stat().st_size for file in files) > MAX_TOTAL_BYTES:
        _refuse(
            "unsafe_folder", "weights beyond the limit", f"at most {MAX_TOTAL_BYTES} bytes", "Give a smaller model."
        )
    for name, file in zip(names, files, strict=True):
        part = read(file, name)
        if twice := next((key for key in part.tensors if key in tensors), None):
            _refuse("unsafe_folder", f"{'.'.join(twice)[:120]} in two parts", "each tensor once", _GIVE_ALL)
        tensors |= part.tensors
        parts[name], metadata[name] = tuple(part.tensors), dict(part.metadata)
        together |= part.metadata
    _all_there(folder, names, tensors)
    side = _side_files(folder)
    return Folder(
        tensors,
        together,
        config,
        read_preprocessor(folder),
        _digest(folder, [*names, *side]),
        FolderForm(parts, metadata, side, top),
    )


def _refuse_plain_folder(folder: Path) -> NoReturn:
    """Of a folder without config.json a file in it may be what is meant: a folder of training runs, say."""
    weights = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in _OF_WEIGHTS)
    few = ", ".join(ascii(name)[1:-1][:80] for name in weights[:3]) + (", ..." if len(weights) > 3 else "")
    _refuse(
        "not_a_model_folder",
        "a folder without config.json" + (f", in which lie {few}" if weights else ""),
        "config.json beside the weights, or one file of weights",
        (f"Give the file itself, such as {few.partition(',')[0]}; or, of a model of Hugging Face, " if weights else "")
        + (_GIVE_ALL[0].lower() + _GIVE_ALL[1:] if weights else _GIVE_ALL),
    )


def folder_around(file: Path, name: str, part: Part) -> Folder | None:
    """The descriptions beside a lone ``file`` of weights that its user calls ``name``; None where there are none.

    Raises:
        UnsupportedInput: ``missing_part``, the file is one part of several.
    """
    if _SHARD.fullmatch(name):
        _refuse("missing_part", f"{name}, one part of several", "all parts, their index and config.json", _GIVE_ALL)
    keys = ("model_type", "architecture") if name in _WHOLE else ("model_type",)
    if name not in _WHOLE and not looks_like_tower(map(".".join, part.tensors)):
        return None  # any program may have a config.json beside its weights
    if file.name != name or (config := read_json(_plain_file(file.parent, CONFIG))) is None:
        return None
    if not any(isinstance(config.get(key), str) for key in keys):
        return None
    form = FolderForm({name: tuple(part.tensors)}, {name: dict(part.metadata)}, {}, None)
    return Folder(part.tensors, part.metadata, config, read_preprocessor(file.parent), "", form)


def read_preprocessor(folder: Path) -> Mapping[str, Any] | None:
    """How images are prepared, from ``preprocessor_config.json`` or the newer ``processor_config.json``."""
    found = read_json(_plain_file(folder, PREPROCESSOR))
    if found is None and (whole := read_json(_plain_file(folder, PROCESSOR))) is not None:
        inner = whole.get("image_processor")
        return inner if isinstance(inner, dict) else None
    return found


def read_json(path: Path | None) -> Mapping[str, Any] | None:
    """The JSON object in ``path``, None where there is no such file.

    Raises:
        UnsupportedInput: ``invalid_config``, no JSON object of a sensible size.
    """
    if path is None:
        return None
    if path.stat().st_size > _MAX_TEXT:
        _refuse("invalid_config", f"{path.name} of {path.stat().st_size} bytes", f"at most {_MAX_TEXT}", _GIVE_ALL)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        _refuse("invalid_config", f"{path.name}, which is no JSON object", "a JSON object", "Copy the folder again.")
    return value


def _parts(folder: Path) -> list[str]:
    for whole, index in zip(_WHOLE, _INDEX, strict=True):
        if _plain_file(folder, whole) is not None:
            return [whole]
        if (listed := read_json(_plain_file(folder, index))) is not None:
            return _listed(listed, index)
    loose = sorted(p.name for p in folder.iterdir() if _PART.fullmatch(p.name) and not _SHARD.fullmatch(p.name))
    if len(loose) == 1:
        return loose
    _refuse(
        "not_a_model_folder",
        "a folder without model.safetensors or pytorch_model.bin",
        "one of them, or an index with its parts",
        _GIVE_ALL,
    )


def _listed(index: Mapping[str, Any], name: str) -> list[str]:
    mapping = index.get("weight_map")
    if not isinstance(mapping, dict) or not mapping:
        _refuse("unsafe_folder", f"{name} without a weight_map", "the part of each tensor", _GIVE_ALL)
    parts = list(dict.fromkeys(mapping.values())) if all(isinstance(v, str) for v in mapping.values()) else [""]
    for part in parts:
        if not _PART.fullmatch(part):
            _refuse(
                "unsafe_folder",
                f"{name} that names {ascii(part)[1:-1][:80]}",
                "names of .safetensors or .bin files in the same folder",
                "Write the folder again with save_pretrained.",
            )
    if len(parts) > _MAX_PARTS:
        _refuse("unsafe_folder", f"{len(parts)} parts", f"at most {_MAX_PARTS}", "Save it in fewer parts.")
    return sorted(parts)


def _all_there(folder: Path, names: list[str], tensors: Mapping[Key, Tensor]) -> None:
    index = next((found for n in _INDEX if (found := read_json(_plain_file(folder, n))) is not None), None)
    if index is None or names[0] in _WHOLE:
        return
    held = {".".join(key) for key in tensors}
    missing = [name for name in index["weight_map"] if name not in held]
    if missing:
        _refuse(
            "missing_part",
            f"parts that lack {len(missing)} tensors of the index, such as {ascii(missing[0])[1:-1][:80]}",
            "every tensor that the index lists",
            _GIVE_ALL,
        )


def _required(folder: Path, name: str) -> Path:
    file = _plain_file(folder, name)
    if file is None:
        _refuse("missing_part", f"a folder that lacks {name}", "every part that the index lists", _GIVE_ALL)
    return file


def _plain_file(folder: Path, name: str) -> Path | None:
    """The regular file of that name in ``folder``, None where there is none; a link out of the folder is refused."""
    path = folder / name
    if path.is_symlink():
        target, home = path.resolve(), folder.resolve()
        cache = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
        if target.parent not in (home, cache):
            _refuse(
                "unsafe_folder", f"{name}, a link out of the folder", "a file in the folder", "Copy the file itself."
            )
    return path if path.is_file() else None


def _side_files(folder: Path) -> dict[str, bytes]:
    """Descriptions, tokenizers and the like, as they are: they go back unchanged."""
    found: dict[str, bytes] = {}
    total = 0
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in _SIDE_SUFFIXES or _plain_file(folder, path.name) is None:
            continue
        total += path.stat().st_size
        if total > _MAX_SIDE_BYTES or len(found) >= _MAX_ENTRIES:
            _refuse(
                "unsafe_folder",
                f"more than {_MAX_SIDE_BYTES} bytes beside the weights",
                "the files that save_pretrained writes",
                "Leave other files out of the folder.",
            )
        found[path.name] = path.read_bytes()
    return found


def _digest(folder: Path, names: list[str]) -> str:
    whole = hashlib.sha256()
    for name in sorted(set(names)):
        with (folder / name).open("rb") as file:
            whole.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _top_of_zip(path: Path) -> str | None:
    """Where config.json lies in a zip of a folder: "" or "NAME/"; None for anything else, PyTorch's own zips too."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:_MAX_ENTRIES]
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError):
        return None
    if any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        return None
    tops = [name.removesuffix(CONFIG) for name in names if PurePosixPath(name).name == CONFIG and name.count("/") <= 1]
    return min(tops, key=len) if tops else None


def _unpack(path: Path, top: str, into: Path) -> None:
    limit = min(MAX_TOTAL_BYTES, _MOST_INFLATED * path.stat().st_size) + _MAX_SIDE_BYTES
    seen: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len(entries) > _MAX_ENTRIES:
            _refuse("unsafe_folder", f"a zip of {len(entries)} entries", f"at most {_MAX_ENTRIES}", _ZIP_AGAIN)
        for entry in entries:
            name = entry.filename.removeprefix(top)
            if not entry.filename.startswith(top) or "/" in name or "\\" in name or not name or name[0] == ".":
                continue  # other folders hold nothing that an encoder needs
            if stat.S_ISLNK(entry.external_attr >> 16) or entry.flag_bits & 1:
                _refuse("unsafe_folder", f"{ascii(name)[1:-1][:80]}, a link or encrypted", "plain files", _ZIP_AGAIN)
            if name in seen:
                _refuse("unsafe_folder", f"{ascii(name)[1:-1][:80]} twice in the zip", "each file once", _ZIP_AGAIN)
            if not _PART.fullmatch(name) and PurePosixPath(name).suffix.lower() not in _SIDE_SUFFIXES:
                continue
            seen.add(name)
            limit -= _copy_out(archive, entry, into / name, limit)


def _copy_out(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, limit: int) -> int:
    """Unpack one entry of at most ``limit`` bytes, whatever its header claims; returns its size."""
    written = 0
    try:
        with archive.open(entry) as source, target.open("xb") as out:
            while chunk := source.read(2**20):
                written += len(chunk)
                if written > limit:
                    _refuse("unsafe_folder", "a zip that swells beyond its limit", "a zip of weights", _ZIP_AGAIN)
                out.write(chunk)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as failure:
        raise UnsupportedInput(
            "unsafe_folder",
            field="encoder",
            found=f"a damaged zip: {str(failure)[:120]}",
            expected="a complete zip of a model's folder",
            action=_ZIP_AGAIN,
        ) from failure
    return written


_GIVE_ALL = (
    "Give the whole folder, as save_pretrained writes it: config.json, preprocessor_config.json and the weights."
)
_ZIP_AGAIN = "Zip the model's folder again: config.json, preprocessor_config.json and the weights."


def _refuse(code: str, found: str, expected: str, action: str) -> NoReturn:
    raise UnsupportedInput(code, field="encoder", found=found, expected=expected, action=action)
