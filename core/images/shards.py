"""A folder of shards: tars as WebDataset has them, or Parquet files, each opened when its turn comes.

The image ``cat/1.jpg`` in ``train-000.tar`` has the name ``train-000.tar!/cat/1.jpg``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from core.errors import UnsupportedInput
from core.images.archive import Members, check_count
from core.images.decode import has_image_suffix
from core.images.folder import FolderMembers, is_system_file
from core.images.forms import open_file
from core.types import RejectedImage

_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".parquet")
_MARK = "!/"


class ShardedMembers:
    """The files in the shards of a folder, and those beside the shards. One shard is open at a time."""

    def __init__(self, root: Path, shards: list[str], beside: list[str], stack: ExitStack) -> None:
        self._root = root
        self._folder = FolderMembers(root)
        self._stack = stack
        self._open_shard = ""
        self._members: Members | None = None
        self._places: dict[str, tuple[str, str]] = {}
        self.rejected: list[RejectedImage] = []
        for shard in shards:
            inner = self._open(shard)
            inner_names = inner.names()
            self.rejected += [replace(image, name=f"{shard}{_MARK}{image.name}") for image in inner.rejected]
            check_count(len(self._places) + len(inner_names))
            self._places |= {f"{shard}{_MARK}{name}": (shard, name) for name in inner_names}
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
            return self._folder.read(name)
        shard, inner_name = self._places[name]
        return self._open(shard).read(inner_name)

    def place_of(self, name: str) -> tuple[str, str]:
        """(shard, name inside it); the shard is empty for a file beside the shards."""
        return self._places.get(name, ("", name))

    def _open(self, shard: str) -> Members:
        if self._members is None or shard != self._open_shard:
            self._members = None
            self._stack.close()
            with _naming(shard):
                self._members = self._stack.enter_context(open_file(self._root / shard))
                self._open_shard = shard
        return self._members


@contextmanager
def open_folder(root: Path) -> Iterator[Members]:
    """The files of the folder at ``root``. Where it has shards and no image files, what is in the shards.

    Raises:
        UnsupportedInput: a shard that is damaged or hostile; it is named.
    """
    folder = FolderMembers(root)
    names = folder.names()
    visible = [name for name in names if not is_system_file(name)]
    shards = [name for name in visible if name.lower().endswith(_SUFFIXES)]
    if not shards or any(has_image_suffix(name) for name in visible):
        yield folder
        return
    beside = sorted(set(names) - set(shards))
    with ExitStack() as stack:
        yield ShardedMembers(root, shards, beside, stack)


def inner_name(name: str) -> str:
    """The path inside its shard, of an image that came in one."""
    shard, mark, inside = name.partition(_MARK)
    return inside if mark and shard.lower().endswith(_SUFFIXES) else name


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
