"""What holds for images from anybody in whatever form they come: limits, names, and the words that refuse them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NoReturn, Protocol

from core.errors import UnsupportedInput
from core.types import RejectedImage

MAX_MEMBERS = 500_000
MAX_MEMBER_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 32 * 2**30
PIECE = 2**20  # bytes at a time
MAX_RATIO = 100  # images hardly compress; a plain bitmap of one colour may, hence the floors below
RATIO_FLOOR_BYTES = 2**20
TOTAL_RATIO_FLOOR_BYTES = 64 * RATIO_FLOOR_BYTES
FORMS = "a folder, zip or tar of images, a Parquet or Arrow file, or an array of them (npz, npy, idx, CIFAR's pickle)"


class Members(Protocol):
    """Named files that can be read one by one; cheapest in the order of their names. ``rejected`` are those that never
    are, and why: their names, escaped, are no names here."""

    @property
    def rejected(self) -> Sequence[RejectedImage]: ...

    @property
    def notes(self) -> Sequence[str]:
        """How they are read, where that had to be decided."""
        ...

    def names(self) -> list[str]:
        """All names, sorted."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            UnreadableMember: it is damaged or too large.
        """
        ...


class Archive(Members, Protocol):
    """Files that may be sets of images themselves."""

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of one file, of whatever size, piece by piece.

        Raises:
            UnreadableMember: it is damaged.
        """
        ...


class UnreadableMember(Exception):
    """One file that cannot be read; the message is the reason in a few words."""


TOO_LARGE = f"larger than {MAX_MEMBER_BYTES // 2**20} MiB"
DAMAGED = "damaged in the archive"
_ABSOLUTE = re.compile(r"[/\\]|[A-Za-z]:\\")
ODD_NAME = "its name has a backslash, or characters that cannot be shown; rename it in the archive"


def check_name(name: str) -> None:
    """Refuse a name that leads elsewhere, on this system or another.

    Raises:
        UnsupportedInput: ``unsafe_archive``.
    """
    if not name or _ABSOLUTE.match(name) or ".." in name.replace("\\", "/").split("/"):
        unsafe(f"an entry named {shown(name)}")


def odd_name(name: str) -> RejectedImage | None:
    """The entry ``name`` as one that is passed over: a terminal or log would not show its name as it is, or another
    system would take it for a path. None for a plain name."""
    return RejectedImage(ascii(name)[1:-1], ODD_NAME) if not name.isprintable() or "\\" in name else None


def check_names_differ(names: list[str]) -> None:
    """Refuse two entries of one name: which of them counts would depend on the reader.

    Raises:
        UnsupportedInput: ``unsafe_archive``.
    """
    if len(set(names)) != len(names):
        unsafe("two entries of the same name")


def check_count(count: int) -> None:
    """Refuse more files than a set of images has.

    Raises:
        UnsupportedInput: ``zip_bomb``.
    """
    if count > MAX_MEMBERS:
        bomb(f"{count} files", f"at most {MAX_MEMBERS}")


def check_total(unpacked: int, packed: int) -> None:
    """Refuse an archive of ``packed`` bytes that unpacks to more than images do.

    Raises:
        UnsupportedInput: ``zip_bomb``.
    """
    if unpacked > MAX_TOTAL_BYTES:
        bomb(f"files that unpack to {unpacked} bytes", f"at most {MAX_TOTAL_BYTES}")
    if unpacked > TOTAL_RATIO_FLOOR_BYTES and unpacked > MAX_RATIO * max(packed, 1):
        bomb(f"{packed} bytes that unpack to {unpacked}", f"files that unpack to at most {MAX_RATIO} times their size")


def shown(name: str) -> str:
    """A stranger's name as it may stand in a message."""
    return ascii(name)[:100]


def bomb(found: str, expected: str) -> NoReturn:
    """Refuse an archive that unpacks to too much."""
    refuse("zip_bomb", found, expected, "Make the archive from the image files themselves.")


def unsafe(found: str) -> NoReturn:
    """Refuse an entry that no honest program writes."""
    refuse("unsafe_archive", found, "plain files under plain names", "Make the archive again from a folder of images.")


def broken(found: str, form: str) -> NoReturn:
    """Refuse a file of the ``form`` (zip, tar, ...) that is not whole."""
    refuse("truncated_archive", found, f"a complete {form} of images", f"Copy or make the {form} again.")


def refuse(code: str, found: str, expected: str, action: str) -> NoReturn:
    """Refuse the images."""
    raise UnsupportedInput(code, field="images", found=found, expected=expected, action=action)
