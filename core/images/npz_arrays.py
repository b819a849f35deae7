"""Images in an array of a NumPy file of several (.npz), a zip of .npy files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from core.images.archive import UnreadableMember, broken, shown
from core.images.stored_array import LONGEST_HEADER, ArrayMembers, StoredArray, choose_array, read_npy_header
from core.images.zip_archive import ZipMembers, damage_named

_SUFFIX = ".npy"
_CHUNK = 2**22


def is_npz(archive: ZipMembers) -> bool:
    """Whether a zip holds arrays and nothing else."""
    names = archive.names()
    return bool(names) and all(name.endswith(_SUFFIX) for name in names)


@contextmanager
def open_npz(archive: ZipMembers) -> Iterator[ArrayMembers]:
    """The images in ``archive``, a zip that :func:`is_npz`.

    Raises:
        UnsupportedInput: ``no_image_data`` or ``ambiguous_image_data`` where not exactly one array can be images,
            ``truncated_archive`` where that one is damaged, ``zip_bomb`` where it has too many images.
    """
    arrays = [_read_header(archive, name) for name in archive.names()]
    readable = [array for array in arrays if array is not None]
    if not readable:
        broken(f"an npz whose {len(arrays)} array(s) cannot be read", "npz")
    array = choose_array(readable, "an npz")
    member = array.key + _SUFFIX
    if archive.size(member) != array.offset + array.nbytes:
        broken(f"the array {array}, which is of another size", "npz")
    _check_whole(archive, member)
    with archive.open(member) as stream:
        yield ArrayMembers(array, stream)


def _read_header(archive: ZipMembers, name: str) -> StoredArray | None:
    try:
        with damage_named(), archive.open(name) as stream:
            start = stream.read(LONGEST_HEADER)
    except UnreadableMember:
        broken(f"an npz whose array {shown(name)} is damaged", "npz")
    return read_npy_header(start, name.removesuffix(_SUFFIX))


def _check_whole(archive: ZipMembers, member: str) -> None:
    """Read all of it once: one checksum stands for all images, and its fault would else be seen at the last one."""
    try:
        with damage_named(), archive.open(member) as stream:
            while stream.read(_CHUNK):
                pass
    except UnreadableMember:
        broken("an npz whose images are damaged", "npz")
