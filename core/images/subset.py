"""Some of a set's images, written as a set of the same form: a folder, zip, tar, Parquet file, npz, or shards.

The files' bytes are those of the source. In a tar of samples (WebDataset) what stands beside an image goes with it;
in a Parquet file the row stays whole. An npz keeps the array of images only, as ``[N, H, W, 3]``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from core.images.archive import Members
from core.images.folder import FolderMembers
from core.images.load import open_members
from core.images.npz_arrays import NpzMembers
from core.images.parquet_table import ParquetMembers
from core.images.set_writers import TarMode, Write, into_folder, into_tar, into_zip
from core.images.shards import ShardedMembers
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
        return _write_shards(source, members, names, output)
    if isinstance(members, FolderMembers):
        with into_folder(output) as write:
            _copy(members, names, write)
        return output
    suffix = _suffix(source, members)
    path = output.with_name(output.name + suffix)
    if isinstance(members, TarMembers):
        with into_tar(path, _TARS[_compression(source)][1]) as write:
            _copy(members, (each for name in names for each in (name, *members.beside(name))), write)
    elif isinstance(members, ParquetMembers):
        members.write_rows(names, path)
    elif isinstance(members, NpzMembers):
        _write_npz(members, names, path)
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
        target = output / shard.removesuffix(".zst")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_subset(root / shard, of_shard, output / ".part").rename(target)
    return output


def _copy(members: Members, names: Iterable[str], write: Write) -> None:
    for name in names:
        write(name, members.read(name))


def _write_npz(members: NpzMembers, names: Sequence[str], path: Path) -> None:
    height, width = members.image_size
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(names), height, width, 3)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(f"{members.key}.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, header)
            for name in names:
                stream.write(members.read(name)[-height * width * 3 :])  # a PPM's pixels, behind its header


def _suffix(source: Path, members: Members) -> str:
    if isinstance(members, TarMembers):
        return _TARS[_compression(source)][0]
    if isinstance(members, ParquetMembers):
        return ".parquet"
    return ".npz" if isinstance(members, NpzMembers) else ".zip"


def _compression(source: Path) -> Compression | None:
    with source.open("rb") as file:
        return compression_of(file.read(8))
