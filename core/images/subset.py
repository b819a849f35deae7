"""Some of a set's images, written as a set of the same form: a folder, zip, tar, table, array, or shards.

The files' bytes are those of the source. In a tar of samples (WebDataset) what stands beside an image goes with it;
in a Parquet or Arrow file the row stays whole. An array keeps the images only, as bytes: an npz as ``[N, H, W, 3]``
under the name of the array, any other as an npy file. Sets inside a zip or tar (CIFAR's tar.gz) go out as a zip of
image files.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np
from PIL import Image

from core.images.archive import Members
from core.images.arrow_table import ArrowMembers
from core.images.folder import FolderMembers
from core.images.load import open_members
from core.images.parquet_table import ParquetMembers
from core.images.set_writers import TarMode, Write, into_folder, into_tar, into_zip
from core.images.shards import ShardedMembers
from core.images.stored_array import ArrayMembers
from core.images.tar_archive import TarMembers
from core.images.unpack import Compression, compression_of

_TARS: Mapping[Compression | None, tuple[str, TarMode]] = MappingProxyType(
    {
        None: (".tar", "w"),
        Compression.GZIP: (".tar.gz", "w:gz"),
        Compression.BZIP2: (".tar.bz2", "w:bz2"),
        Compression.XZ: (".tar.xz", "w:xz"),
        # Python 3.11 can write no Zstandard; the images inside are compressed themselves.
        Compression.ZSTANDARD: (".tar", "w"),
    }
)


def write_subset(source: Path, names: Sequence[str], output: Path) -> Path:
    """Write the images ``names`` of the set at ``source``; returns where: ``output``, a folder, where the source is
    one, and else ``output`` with the suffix of the form.

    Raises:
        UnreadableMember: an image that cannot be read.
        UsageError, UnsupportedInput: the set can no longer be opened.
    """
    with open_members(source) as members:
        return _write(source, members, names, output)


def _write(source: Path, members: Members, names: Sequence[str], output: Path) -> Path:
    if isinstance(members, ShardedMembers):
        return (_write_shards if source.is_dir() else _write_pictures)(source, members, names, output)
    if isinstance(members, FolderMembers):
        with into_folder(output) as write:
            _copy(members, names, write)
        return output
    suffix = _suffix(source, members)
    path = output.with_name(output.name + suffix)
    if isinstance(members, TarMembers):
        with into_tar(path, _TARS[_compression(source)][1]) as write:
            _copy(members, (each for name in names for each in (name, *members.beside(name))), write)
    elif isinstance(members, ParquetMembers | ArrowMembers):
        members.write_rows(names, path)
    elif isinstance(members, ArrayMembers):
        (_write_npz if suffix == ".npz" else _write_npy)(members, names, path)
    else:
        with into_zip(path) as write:
            _copy(members, names, write)
    return path


def _write_shards(root: Path, members: ShardedMembers, names: Sequence[str], output: Path) -> Path:
    """Each shard on its own, under its own name; a shard of which nothing is left is left out."""
    in_shard: dict[str, list[str]] = {}
    for name in names:
        shard, inside = members.place_of(name)
        in_shard.setdefault(shard, []).append(inside)
    with into_folder(output) as write:
        _copy(members, in_shard.pop("", []), write)  # images beside the shards
    for shard, of_shard in in_shard.items():
        written = _write(root / shard, members.inside(shard), of_shard, output / ".part")
        # The name stays, but for a compression that is not written, and for arrays of other forms.
        name = shard.removesuffix(".zst") if written.suffix != ".npy" else shard.removesuffix(".npy") + ".npy"
        target = output / name
        target.parent.mkdir(parents=True, exist_ok=True)
        written.rename(target)
    return output


def _write_pictures(source: Path, members: ShardedMembers, names: Sequence[str], output: Path) -> Path:
    """What lay in sets inside the zip or tar ``source``, as image files in a zip."""
    path = output.with_name(output.name + ".zip")
    with into_zip(path) as write:
        for name in names:
            shard, inside = members.place_of(name)
            data = members.read(name)
            if shard and isinstance(members.inside(shard), ArrayMembers):
                write(f"{shard}/{inside}.png", _png(data))
            else:
                write(f"{shard}/{inside}" if shard else inside, data)
    return path


def _png(data: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data), formats=["PPM"]).save(buffer, "PNG")
    return buffer.getvalue()


def _copy(members: Members, names: Iterable[str], write: Write) -> None:
    for name in names:
        write(name, members.read(name))


def _write_npz(members: ArrayMembers, names: Sequence[str], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(f"{members.key}.npy", "w", force_zip64=True) as stream:
            _write_array(members, names, stream)


def _write_npy(members: ArrayMembers, names: Sequence[str], path: Path) -> None:
    with path.open("wb") as stream:
        _write_array(members, names, stream)


def _write_array(members: ArrayMembers, names: Sequence[str], stream: IO[bytes]) -> None:
    height, width = members.image_size
    grey = bool(names) and members.pixels(names[0]).ndim == 2
    shape = (len(names), height, width) if grey else (len(names), height, width, 3)
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    for name in names:
        stream.write(members.pixels(name).tobytes())


def _suffix(source: Path, members: Members) -> str:
    if isinstance(members, TarMembers):
        return _TARS[_compression(source)][0]
    if isinstance(members, ParquetMembers):
        return ".parquet"
    if isinstance(members, ArrowMembers):
        return ".arrow"
    if isinstance(members, ArrayMembers):
        with source.open("rb") as file:
            return ".npz" if file.read(2) == b"PK" else ".npy"
    return ".zip"


def _compression(source: Path) -> Compression | None:
    with source.open("rb") as file:
        return compression_of(file.read(8))
