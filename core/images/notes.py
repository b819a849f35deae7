"""What the owner of a set of images should hear of it before the answer."""

from __future__ import annotations

from core.types import ImageSet

_NAMED = 3


def notes_on(images: ImageSet) -> tuple[str, ...]:
    """Sentences: how the set was read, as its own notes say it, and which of its files could not be used."""
    count = len(images.rejected)
    if not count:
        return images.notes
    listed = "; ".join(f"{_shown(image.name)[:80]}: {image.reason}" for image in images.rejected[:_NAMED])
    more = f"; and {count - _NAMED} more" if count > _NAMED else ""
    files = "1 file" if count == 1 else f"{count} files"
    return (*images.notes, f"{files} could not be used ({listed}{more}).")


def _shown(name: str) -> str:
    """Names that cannot be shown come escaped out of archives; those of folders are escaped here."""
    return name if name.isprintable() else ascii(name)[1:-1]
