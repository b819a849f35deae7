"""A folder or an archive of sets: shards, each opened when its turn comes.

In a folder: tars as WebDataset has them, or Parquet files, by their names. In a folder, zip or tar: tables and arrays,
by how they begin, as in CIFAR's ``data_batch_1``, MNIST's ``train-images-idx3-ubyte.gz``, Hugging Face's
``data-00000-of-00001.arrow``. The image ``cat/1.jpg`` in ``train-000.tar`` has the name ``train-000.tar!/cat/1.jpg``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from core.errors import UnsupportedInput
from core.images.archive import Archive, Members, UnreadableMember, check_count
from core.images.decode import has_image_suffix
from core.images.folder import FolderMembers, is_system_file
from core.images.forms import is_set_file, open_file, open_set_file
from core.images.tar_archive import TarMembers
from core.images.unpack import Compression, spooled, unpacked
from core.images.zip_archive import ZipMembers
from core.types import RejectedImage

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".parquet")
_MARK = "!/"
_ROW = re.compile(r"(image|row)-\d{8}")
_Opener = Callable[[], AbstractContextManager[Members]]


class ShardedMembers:
    """The files in the shards of a folder or archive, and those beside the shards. One shard is open at a time."""

    def __init__(
        self, container: Archive, shards: Mapping[str, _Opener], tried: Mapping[str, _Opener], stack: ExitStack
    ) -> None:
        """``tried``: shards by their beginnings only. Where one turns out to be none, it is named in ``rejected``."""
        self._container = container
        self._shards = {**shards, **tried}
        self._stack = stack
        self._open_shard = ""
        self._members: Members | None = None
        self._places: dict[str, tuple[str, str]] = {}
        self.rejected: list[RejectedImage] = list(container.rejected)
        self.notes: list[str] = []
        for shard in sorted(self._shards):
            try:
                inner = self.inside(shard)
            except (UnsupportedInput, UnreadableMember) as failure:
                if shard not in tried:
                    raise
                self.rejected.append(RejectedImage(shard, _reason(failure)))
                continue
            inner_names = inner.names()
            check_count(len(self._places) + len(inner_names))
            self.rejected += [replace(image, name=f"{shard}{_MARK}{image.name}") for image in inner.rejected]
            self.notes += [note for note in inner.notes if note not in self.notes]
            self._places |= {f"{shard}{_MARK}{name}": (shard, name) for name in inner_names}
        beside = set(container.names()) - set(self._shards)
        self._names = sorted([*self._places, *beside])

    def names(self) -> list[str]:
        """Names with that of the shard before them, sorted; those of one shard follow one another."""
        return list(self._names)

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            UnreadableMember: it is damaged or too large.
        """
        if name not in self._places:
            return self._container.read(name)
        shard, inner_name = self._places[name]
        return self.inside(shard).read(inner_name)

    def place_of(self, name: str) -> tuple[str, str]:
        """(shard, name inside it); the shard is empty for a file beside the shards."""
        return self._places.get(name, ("", name))

    def inside(self, shard: str) -> Members:
        """The files of one shard, as long as no other is asked for."""
        if self._members is None or shard != self._open_shard:
            self._members = None
            self._stack.close()
            with _naming(shard):
                self._members = self._stack.enter_context(self._shards[shard]())
                self._open_shard = shard
        return self._members


@contextmanager
def open_folder(root: Path) -> Iterator[Members]:
    """The files of the folder at ``root``. Where it has shards and no image files, what is in the shards.

    Raises:
        UnsupportedInput: a shard that is damaged or hostile; it is named.
    """
    folder = FolderMembers(root)
    visible = _visible(folder)
    shards: dict[str, _Opener] = {
        name: partial(open_file, root / name) for name in visible if name.lower().endswith(_SUFFIXES)
    }
    with _sharded(folder, shards, [name for name in visible if name not in shards], root) as members:
        yield members


@contextmanager
def open_archive(path: Path) -> Iterator[Members]:
    """The images in the file at ``path``; of a zip or tar that has sets and no image files, what is in the sets.

    Raises:
        UnsupportedInput, UsageError: see ``core.images.forms``.
    """
    with open_file(path) as members:
        if not isinstance(members, ZipMembers | TarMembers):
            yield members
            return
        with _sharded(members, {}, _visible(members), path.parent) as inner:
            yield inner


def inner_name(name: str) -> str:
    """The path inside its shard, of an image that came in one."""
    shard, mark, inside = name.partition(_MARK)
    return inside if mark and (shard.lower().endswith(_SUFFIXES) or _ROW.fullmatch(inside)) else name


def _visible(members: Members) -> list[str]:
    return [name for name in members.names() if not is_system_file(name)]


@contextmanager
def _sharded(
    container: FolderMembers | ZipMembers | TarMembers, shards: Mapping[str, _Opener], others: list[str], root: Path
) -> Iterator[Members]:
    if any(has_image_suffix(name) for name in (*shards, *others)):
        yield container
        return
    tried = {name: partial(_opened, container, name, root) for name in _candidates(container, others)}
    if not shards and not tried:
        yield container
        return
    with ExitStack() as stack:
        yield ShardedMembers(container, shards, tried, stack)


def _candidates(container: Archive, names: Sequence[str]) -> Iterator[str]:
    """Those that begin as tables or arrays do; compressed ones by their name, unless they are there unpacked too."""
    there = set(names)
    for name in names:
        if name.lower().endswith(".npz") and isinstance(container, FolderMembers):
            yield name
            continue
        packed = name.lower().endswith(".gz")
        if packed and name[:-3] in there:
            continue
        try:
            start = next(iter(container.pieces(name)), b"")
        except UnreadableMember:
            continue  # it is named where it is read
        if is_set_file(start) or (packed and start.startswith(Compression.GZIP.value)):
            yield name


@contextmanager
def _opened(container: Archive, name: str, root: Path) -> Iterator[Members]:
    if isinstance(container, FolderMembers):
        with open_file(root / name) as members:
            yield members
        return
    with spooled(container.pieces(name), beside=root) as file:
        if not name.lower().endswith(".gz"):
            with open_set_file(file) as members:
                yield members
            return
        with unpacked(file, Compression.GZIP, beside=root) as content, open_set_file(content) as members:
            yield members


def _reason(failure: UnsupportedInput | UnreadableMember) -> str:
    """In the words of a rejected image: what was found and what to do."""
    if isinstance(failure, UnreadableMember):
        return str(failure)
    _, _, found = failure.problem.found.partition(": ")
    return f"{found}; {failure.problem.action}"


@contextmanager
def _naming(shard: str) -> Iterator[None]:
    try:
        yield
    except UnsupportedInput as error:
        problem = error.problem
        raise UnsupportedInput(
            problem.code,
            field=problem.field,
            found=f"{ascii(shard)[1:-1][:100]}: {problem.found}",
            expected=problem.expected,
            action=problem.action,
        ) from error
